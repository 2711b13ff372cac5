"""Multimodal models as policies, and their registration with lmms-eval."""
