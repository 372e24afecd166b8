"""What is kept of a run: its record, and every file in its folder by name."""
