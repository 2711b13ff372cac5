"""Step labels for process reward models: where a chain of steps first goes wrong."""
