"""ChatGLM-6B, version 1."""
