"""Code that all papers share, so that their numbers are comparable. Imports no paper."""
