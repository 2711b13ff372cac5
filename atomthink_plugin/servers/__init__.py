"""Clients of OpenAI-compatible servers: connections, retries, replies, chat requests."""
