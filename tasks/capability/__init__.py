"""Atomic capability: how well a model performs each kind of atomic step (AtomThink, arXiv 2503.06252)."""
