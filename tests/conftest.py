"""Hypothesis for all tests: no deadlines, since machines differ, and enough examples. One thread to a process."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the hub, and waiting for it takes long without a network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; the test processes share the cores

settings.register_profile("atomthink", deadline=None, max_examples=80)
settings.load_profile("atomthink")
