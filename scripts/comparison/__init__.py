"""What compare.py is made of: the plan, the runs, their numbers, intervals, figure and page."""
