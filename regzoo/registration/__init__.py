"""Two images in, one result out: registering, judging, telling."""
