"""MathVista without a judge."""
