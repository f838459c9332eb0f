"""Figures: contact sheets, retrieval lists, heat maps and curves."""
