"""How a run uses its devices: a module an option, each with a class that answers for it."""
