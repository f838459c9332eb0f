"""Dynamic Feature Weakening for Cross-Modality Person Re-Identification (visible and infrared)."""
