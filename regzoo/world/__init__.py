"""RAS millimetres, in NumPy: images, transforms, metrics. LPS exists only in io. No Keras."""
