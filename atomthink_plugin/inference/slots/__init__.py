"""Slots engine: shared prefixes are kept once, and rows join and leave a running batch at any step."""
