from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from atomthink_plugin.api import Failure, Outcome, Usage
from atomthink_plugin.runtime import progress as module
from atomthink_plugin.runtime.progress import RunProgress, track

DONE = Outcome("", None, (), (), 0.0, "final", Usage())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The display's clock, as a list with the time."""
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    return [tuple(record.args or ()) for record in caplog.records if record.name == module.__name__]


def test_lines_are_logged_at_intervals_and_at_the_end(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with RunProgress(4, "beam") as progress:
        progress.finished(DONE, None)
        assert logged(caplog) == []
        clock[0] += 40
        progress.finished(DONE, Usage(generated=400))
        progress.finished(Failure("torn"), Usage(generated=40))
        clock[0] += 4
        progress.finished(DONE, Usage(generated=0))
    # A question that an earlier run finished does not count for the time left.
    assert logged(caplog) == [
        ("beam", 2, 4, "questions", 0, 10.0, "tokens", 80.0),
        ("beam", 4, 4, "questions", 1, 10.0, "tokens", 0.0),
    ]


def test_units_have_their_own_rate(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with RunProgress(30, "prm", unit="steps", rate_of=None) as progress:
        clock[0] += 60
        progress.advance(10)
        clock[0] += 1
        progress.advance(5)
    assert logged(caplog) == [("prm", 10, 30, "steps", 0, 10 / 60, "steps", 120.0)]


def test_tracked_items_are_counted_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert list(track("abc", "figures")) == ["a", "b", "c"]
    (line,) = logged(caplog)
    assert line[:5] == ("figures", 3, 3, "figures", 0)


def test_further_processes_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with RunProgress(1, "beam", shown=False) as progress:
        progress.advance()
    assert logged(caplog) == []


def test_a_terminal_gets_a_bar_and_no_log_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with RunProgress(3, "prm", unit="steps", rate_of=None) as progress:
        progress.advance(2)
    shown = capsys.readouterr().err
    assert "2/3" in shown
    assert "steps/s" in shown
    assert logged(caplog) == []


def test_interrupted_work_leaves_its_state(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = RunProgress(4, "beam")
    with progress:
        progress.finished(DONE, Usage())
        progress.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    ((label, done, total, *_),) = logged(caplog)
    assert (label, done, total) == ("beam", 1, 4)
