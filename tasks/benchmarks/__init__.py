"""MathVista, MathVerse and MATH-Vision as tasks of lmms-eval."""
