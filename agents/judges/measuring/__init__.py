"""What `python -m agents.judge` is made of: episodes, the forms of a question, names that match, statistics, and the report."""
