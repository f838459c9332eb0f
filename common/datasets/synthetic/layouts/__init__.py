"""In which layout a data set is written: one module for each real data set."""
