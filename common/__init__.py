"""What must be identical for the numbers of different papers to compare. Imports no paper."""
