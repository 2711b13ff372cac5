"""Preference pairs from searches and from chains with known answers."""
