"""MATH-Vision without a judge."""
