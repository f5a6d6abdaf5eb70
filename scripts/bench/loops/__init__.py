"""The work of scripts/bench/loop.py, and the sides that do it."""
