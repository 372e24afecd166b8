"""Overrides -> checked config, composed from `conf/` or from a saved run; imports no torch."""
