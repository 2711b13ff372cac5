"""Slow thinking for multimodal models: atomic steps, process reward models and search."""

__version__ = "0.1.0"
