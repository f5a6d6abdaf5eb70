"""What endurance.py is made of: environments that fail on request, and a long training that is watched."""
