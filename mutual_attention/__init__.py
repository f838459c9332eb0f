"""An Improved Deep Mutual-Attention Learning Model for Person Re-Identification (Symmetry 2020)."""
