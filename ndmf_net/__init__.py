"""NDMF-Net: Neighboring-Part Dependency Mining and Feature Fusion Network (IEEE Access 2023)."""
