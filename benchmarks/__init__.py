"""Reported and reproduced: the papers' tables and figures, generated from the records of runs."""
