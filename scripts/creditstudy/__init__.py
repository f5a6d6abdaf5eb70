"""What `scripts/credit_study.py` is made of."""
