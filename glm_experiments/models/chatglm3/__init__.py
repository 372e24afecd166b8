"""ChatGLM2-6B and ChatGLM3-6B."""
