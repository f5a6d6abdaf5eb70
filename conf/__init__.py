"""Hydra configuration groups of stepcredit."""
