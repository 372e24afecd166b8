"""Data: files or generators -> rows -> prompts -> token ids and labels -> batches."""
