"""Prompt formats, one per file: what a policy is asked, and how its replies become steps."""
