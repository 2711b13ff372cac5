"""Solved examples for the format `few_shot`: the file they are in, and the ways of choosing them."""
