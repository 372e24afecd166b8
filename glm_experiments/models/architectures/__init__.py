"""Modules: an architecture that transformers lacks has a folder; the rest concerns all of them."""
