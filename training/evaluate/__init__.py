"""How well a process reward model tells right steps from wrong ones, on any labelled set."""
