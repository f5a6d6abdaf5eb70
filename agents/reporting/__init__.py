"""A report on runs: what is in their folders, read and shown on one page."""
