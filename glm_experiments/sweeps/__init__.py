"""Many runs: their points and folders, where each computes, what becomes of each."""
