"""Plan, time and execute the runs that a paper's tables need."""
