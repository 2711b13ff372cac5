"""MATH-Vision, scored without a judge."""
