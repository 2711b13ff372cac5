"""Which solved questions are kept, against definitions on plain data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atomthink_plugin.examples.example_file import ExampleRecord
from atomthink_plugin.training.examples.selection import from_clusters, is_simple, most_steps

LAST = "To sum up, the final answer is: 7."


def solved(id: str, steps: int = 2, question: str = "How many?") -> ExampleRecord:
    texts = [*(f"Step {k}: Look." for k in range(1, steps)), f"Step {steps}: {LAST}"]
    return ExampleRecord(id=id, question=question, steps=tuple(texts), answer="7")


@pytest.mark.parametrize(
    ("words", "steps", "simple"), [(60, 6, True), (61, 6, False), (60, 7, False), (61, 7, False), (1, 1, True)]
)
def test_simple_examples_have_60_words_and_5_steps_before_the_conclusion(words: int, steps: int, simple: bool) -> None:
    assert is_simple(solved("a", steps, " ".join(["word"] * words))) is simple


def test_an_example_whose_last_step_is_cut_is_not_simple() -> None:
    assert not is_simple(ExampleRecord(id="a", question="?", steps=("The final answer is: 7",), answer="7"))


@given(st.permutations(range(12)), st.lists(st.booleans(), min_size=12, max_size=12), st.randoms())
def test_each_cluster_gives_its_simple_record_that_is_nearest_to_the_centre(
    order: list[int], simple: list[bool], random: object
) -> None:
    """Three groups far from each other, of four points at distances 1, 2, 3 and 6 from the centre of their group."""
    offsets, centres = [(1, 0), (2, 0), (3, 0), (-6, 0)], [(0, 0), (1000, 0), (0, 1000)]
    points = [(cx + x, cy + y) for cx, cy in centres for x, y in offsets]
    records = [solved(str(point), 2 if simple[point] else 9) for point in order]
    vectors = np.array([points[point] for point in order], dtype=float)
    expected = set()
    for group in range(3):
        members = range(4 * group, 4 * group + 4)  # nearest first
        expected.add(next((point for point in members if simple[point]), members[0]))
    found = from_clusters(records, vectors, 3)
    assert [record.id for record in found] == [str(point) for point in order if point in expected]


@pytest.mark.filterwarnings("error")
def test_equal_vectors_are_one_cluster() -> None:
    records = [solved(str(i)) for i in range(4)]
    vectors = np.array([[0.0], [0.0], [5.0], [5.0]])
    assert [one.id for one in from_clusters(records, vectors, 3)] == ["0", "2"]
    assert [one.id for one in from_clusters(records[:1], vectors[:1], 8)] == ["0"]


@given(st.lists(st.integers(1, 5), max_size=8), st.integers(1, 9))
def test_the_most_complex_have_the_most_steps(lengths: list[int], k: int) -> None:
    records = [solved(str(i), length) for i, length in enumerate(lengths)]
    left = dict(enumerate(lengths))
    expected = []
    for _ in range(min(k, len(lengths))):
        expected.append(max(left, key=lambda i: (left[i], -i)))
        del left[expected[-1]]
    assert [one.id for one in most_steps(records, k)] == [str(i) for i in sorted(expected)]
