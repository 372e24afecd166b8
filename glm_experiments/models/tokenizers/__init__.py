"""Tokenizers of every generation, a module each; what they share; loading and training them."""
