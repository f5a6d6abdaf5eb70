"""What scripts/gpu_report.py measures on a graphics card, and how it is carried there."""
