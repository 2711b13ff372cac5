"""Chains of atomic steps for questions with known answers, written by a teacher or by a local model."""
