"""Training of process reward models: what is trained is read where, and as, the scorers read it."""
