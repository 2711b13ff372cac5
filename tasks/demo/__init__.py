"""The demo task: questions about rendered figures, with the pictures and the scores."""
