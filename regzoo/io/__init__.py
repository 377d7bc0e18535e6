"""Files: what is written whole or not at all, YAML and JSON, images, transforms and landmarks. No Keras."""
