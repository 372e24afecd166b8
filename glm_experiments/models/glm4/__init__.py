"""GLM-4 in its published files."""
