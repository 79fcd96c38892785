"""One module per program in bin/: its story in calls, nothing else."""
