"""Training of policies and process reward models: supervised, on preference pairs, and on step labels."""
