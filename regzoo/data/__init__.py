"""Which files a recipe names, which pairs they make, and how they are read. No Keras."""
