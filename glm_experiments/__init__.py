"""Config-composed fine-tuning experiments for the GLM family."""
