"""Tasks for lmms-eval, and the hook by which it finds them."""
