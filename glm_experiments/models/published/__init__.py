"""Files as published -> native modules: where they lie, what is in them, by which names.

A published arrangement of names and settings is a layout, a module each; `layouts.py` tells them
apart.
"""
