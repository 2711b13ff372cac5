"""What the package itself offers to judge replies in reports: the rules of its benchmarks."""

from __future__ import annotations

from typing import Any

import pytest

from atomthink_plugin.plugins.registry import registry
from tests.tasks.tiny_benchmarks import mathverse_rows, mathvision_rows, mathvista_rows

ROWS: dict[str, list[dict[str, Any]]] = {
    "mathvista": mathvista_rows("testmini"),
    "mathverse": mathverse_rows(["Text Only"]),
    "mathvision": mathvision_rows(),
}


@pytest.mark.parametrize("benchmark", ROWS)
def test_each_benchmark_has_a_judge_that_separates_right_from_wrong(benchmark: str) -> None:
    judge = registry().judges[benchmark]
    for row in ROWS[benchmark]:
        assert judge(row, f"Step 1: The final answer is: {row['answer']}.")
        assert not judge(row, "Step 1: The final answer is: 987654.")
