"""Fine-tuning of policies: supervised on chains of steps, and on pairs of better and worse ones."""
