"""Making weights: recipes that run from nothing to a checkpoint."""
