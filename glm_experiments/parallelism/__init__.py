"""Where a run computes: a pure plan, and what each kind of plan needs at run time."""
