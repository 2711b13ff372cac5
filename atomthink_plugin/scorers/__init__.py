"""Scorers, one kind per file."""
