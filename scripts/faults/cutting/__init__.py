"""What power_cut.py is made of: a journal of what a process does to a folder, and a trial that resumes a run after a cut."""
