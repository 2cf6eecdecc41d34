"""What runs and readers survive, `python -m reliability.NAME`: kills, long runs, damaged files."""
