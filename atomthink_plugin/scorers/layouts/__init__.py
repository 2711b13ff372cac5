"""Layouts of published process reward models: where question, steps, tags and verdicts stand in what they read."""
