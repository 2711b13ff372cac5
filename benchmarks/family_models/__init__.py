"""Tiny random models of all image-text-to-text architectures of transformers, and how the plugin runs them."""
