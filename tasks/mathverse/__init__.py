"""MathVerse without a judge."""
