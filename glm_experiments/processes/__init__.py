"""The processes of a run: started and ended together, and what they tell each other."""
