"""Rules that extract and judge answers to MathVista, MathVerse and MATH-Vision without a judge model."""
