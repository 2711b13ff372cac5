"""MathVerse, scored without a judge."""
