"""What kills.py is made of: small trainings, and one of them as a process that can be killed."""
