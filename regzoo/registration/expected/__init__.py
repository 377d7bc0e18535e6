"""How far off a registration is: evidence without labels, an expected error in mm, a verdict in words."""
