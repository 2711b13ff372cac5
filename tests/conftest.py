"""Hypothesis for all tests: no deadlines, since machines differ, and enough examples."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("atomthink", deadline=None, max_examples=80)
settings.load_profile("atomthink")
