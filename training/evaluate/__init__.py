"""Metrics of process reward models on labelled sets."""
