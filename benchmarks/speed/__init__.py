"""Speed and memory of what users wait for, compared with the usual code or with a lower bound."""
