"""Facts of the architectures from `kosmos-2.5` on, in the order of transformers' list."""

from __future__ import annotations

from benchmarks.family_models.facts import Facts

FACTS: dict[str, Facts] = {}
