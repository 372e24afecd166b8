"""Files as published -> native modules: where they lie, what is in them, by which names.

A published arrangement of names and settings is a layout, a module each; `layout_finding` tells
them apart.
"""
