"""Atomic capability: how well a model does each kind of step (AtomThink, the evaluation of atomic steps)."""
