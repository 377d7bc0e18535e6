"""A recipe in, a zoo entry out."""
