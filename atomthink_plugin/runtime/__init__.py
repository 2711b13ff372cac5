"""Runs searches on many questions at once: event loop, batching, budgets, journal, progress."""
