"""MathVista, scored without a judge."""
