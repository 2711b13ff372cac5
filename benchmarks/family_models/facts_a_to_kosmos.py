"""Facts of the architectures up to `kosmos-2`, in the order of transformers' list."""

from __future__ import annotations

from benchmarks.family_models.facts import Facts

FACTS: dict[str, Facts] = {}
