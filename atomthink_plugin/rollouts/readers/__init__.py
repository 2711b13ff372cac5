"""Readers of candidates in published formats, one format per file."""
