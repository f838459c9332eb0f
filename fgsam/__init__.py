"""FGSAM: Fine-Grained Spatial Alignment Model with Focal Triplet Loss (IEEE TIP 2020)."""
