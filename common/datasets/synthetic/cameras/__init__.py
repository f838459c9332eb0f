"""How an image is seen: colour casts, spectra, noise, viewpoint and crop."""
