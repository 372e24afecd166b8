"""The commands that work on a run folder, one module each."""
