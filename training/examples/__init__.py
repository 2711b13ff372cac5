"""Solved examples that a model writes itself, for the format `few_shot`."""
