"""Where an image is taken: places and the objects in them."""
