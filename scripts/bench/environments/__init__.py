"""What env_speed.py measures: an environment a module, and what they share in `play`."""
