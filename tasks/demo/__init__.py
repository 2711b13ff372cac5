"""The demo task: questions about drawn figures."""
