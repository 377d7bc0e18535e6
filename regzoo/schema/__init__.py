"""What YAML and JSON may say, checked by pydantic before anything is built. No Keras."""
