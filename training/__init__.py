"""Making weights: recipes that make a checkpoint from scratch."""
