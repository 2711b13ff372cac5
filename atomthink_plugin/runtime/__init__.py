"""Thinks about many questions at once: loop, batching, budgets, journal, progress."""
