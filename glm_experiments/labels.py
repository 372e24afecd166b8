"""What stands in a row's labels where no loss is wanted."""

IGNORED = -100
"""torch's own default for a target that cross entropy leaves out."""
