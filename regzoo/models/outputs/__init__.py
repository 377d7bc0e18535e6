"""What turns features, or trainable weights, into a field."""
