"""Candidates that any model generated: readers of published formats, and what selection makes of them."""
