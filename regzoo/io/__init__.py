"""Files: what is written whole or not at all, YAML and JSON, volumes, transforms and landmarks. No Keras."""
