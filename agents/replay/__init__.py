"""The credit of single episodes, to look at: what a page shows, read from a run, in the terminal and as HTML."""
