"""Comparisons of formulas end, whatever is compared and wherever the comparison is asked for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from atomthink_plugin.algebra_worker import AlgebraWorker, WorkerLostError
from atomthink_plugin.answers import equivalent
from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.tasks.scoring.judges import judge

HANGS = "9^{9^{9^9}}"
"""Takes sympy for ever, in one multiplication that no Python code can interrupt."""


@pytest.fixture
def worker() -> Iterator[AlgebraWorker]:
    worker = AlgebraWorker()
    yield worker
    worker.stop()


@pytest.mark.slow
def test_what_takes_too_long_is_not_the_same_and_the_next_comparison_is_right(worker: AlgebraWorker) -> None:
    assert worker.same("x(x+1)", "x^2+x")
    first = worker.pid
    assert first is not None
    assert not worker.same(HANGS, "2")
    assert not _runs(first)
    assert worker.same("x(x+1)", "x^2+x")
    assert not worker.same("x(x+1)", "x^2-x")
    assert worker.pid != first


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_something_else_ends_changes_no_verdict(worker: AlgebraWorker, ended_by: signal.Signals) -> None:
    assert worker.same("2x", "x+x")
    assert worker.pid is not None
    os.kill(worker.pid, ended_by)
    assert worker.same("3x", "x+2x")


@pytest.mark.slow
def test_a_worker_that_does_not_answer_is_replaced(worker: AlgebraWorker) -> None:
    assert worker.same("2x", "x+x")
    stopped = worker.pid
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    assert worker._running is not None
    worker._running[1].settimeout(0.05)
    assert worker.same("3x", "x+2x")
    assert not _runs(stopped)


def test_a_comparison_that_is_lost_twice_is_an_error_and_not_remembered(worker: AlgebraWorker) -> None:
    class Lost(AlgebraWorker):
        def _verdict(self, request: bytes) -> bool | None:
            return None

    with pytest.raises(WorkerLostError):
        Lost().same("4x", "x+3x")


def test_the_same_equation_in_another_order_is_the_same_whatever_its_degree(worker: AlgebraWorker) -> None:
    assert worker.same("x^{12}+1=0", "1+x^{12}=0")
    assert worker.same("y=x^{11}", "x^{11}=y")
    assert not worker.same("y=x^{11}", "x^{12}=y")


def test_the_worker_runs_no_code_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    worker = AlgebraWorker()
    assert worker.same("2x", "x+x")
    worker.stop()


@pytest.mark.slow
def test_an_interrupted_comparison_leaves_no_reply_for_the_next_one(worker: AlgebraWorker) -> None:
    class Interrupted:
        def sendall(self, request: bytes) -> None:
            connection.sendall(request)

        def recv(self, count: int) -> bytes:
            raise KeyboardInterrupt

        def close(self) -> None:
            connection.close()

    assert worker.same("2x", "x+x")
    assert worker._running is not None
    process, connection = worker._running
    worker._running = process, Interrupted()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        worker.same("2x", "x+x")
    assert not worker.same("2x", "3x")


def test_threads_get_their_own_verdicts(worker: AlgebraWorker) -> None:
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda n: worker.same(f"(x+{n})^2", "x^2+2x+1"), range(20)))
    assert verdicts == [n == 1 for n in range(20)]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*")
def test_daemons_of_multiprocessing_compare_too(way: str) -> None:
    assert equivalent("x(x+2)", "x^2+2x")  # a forked process inherits this worker, and must not share it
    context = multiprocessing.get_context(way)
    verdicts = context.Queue()
    process = context.Process(target=_compare, args=(verdicts,), daemon=True)
    process.start()
    assert verdicts.get() == [n == 1 for n in range(20)]
    process.join()
    assert [equivalent(f"(x+{n})^2", "x^2+4x+4") for n in range(20)] == [n == 2 for n in range(20)]


def _compare(verdicts: multiprocessing.Queue[list[bool]]) -> None:
    verdicts.put([equivalent(f"(x+{n})^2", "x^2+2x+1") for n in range(20)])


@pytest.mark.slow
@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_worker_ends_with_the_process_that_started_it(end: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from atomthink_plugin.algebra_worker import AlgebraWorker\n"
        "worker = AlgebraWorker()\n"
        "assert worker.same('2x', 'x+x')\n"
        f"print(worker.pid, flush=True)\n{end}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    _wait_until(lambda: not _runs(int(done.stdout)))
    assert done.stderr == ""


def test_a_worker_that_cannot_start_is_an_error(worker: AlgebraWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(AtomThinkError, match="math_verify"):
        worker.same("2x", "x+x")
    monkeypatch.undo()
    assert worker.same("2x", "x+x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("y=2x+1", "y=(a+b+c+d+f)^{10}"),
        ("(1,x)", "((a+b+c+d+f+g)^{10},x)"),
        ("\\{1,x\\}", "\\{(a+b+c+d+f)^{10},x\\}"),
        ("x^{9}+y^{8}+z^{7}=2", "(x+y+z)^{9}=(x-y)^{8}"),
        ("\\sqrt{x}+\\sqrt{y}=2", "\\sqrt{x+1}+\\sqrt{x+2}+\\sqrt{x+3}=x"),
    ],
)
def test_no_equation_set_or_tuple_is_expanded_without_end(answer: str, reply: str) -> None:
    code = (
        "from atomthink_plugin.tasks.scoring.judges import judge\n"
        f"question = {{'id': '1', 'question': 'Find it.', 'options': [], 'answer': {answer!r}}}\n"
        f"print(judge('mathvision', question, {chr(92) + 'boxed{' + reply + '}'!r}).correct)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout == "False\n"


def test_small_equations_are_still_expanded() -> None:
    sphere = {"id": "1", "question": "Find it.", "options": [], "answer": "(x-1)^2+(y-2)^2+(z-3)^2=25"}
    assert judge("mathvision", sphere, "\\boxed{x^2+y^2+z^2-2x-4y-6z=11}").correct
    assert not judge("mathvision", sphere, "\\boxed{x^2+y^2+z^2-2x-4y-6z=12}").correct


def test_plain_answers_start_no_process() -> None:
    code = (
        "from atomthink_plugin import answers\n"
        "plain = ['12', '12.0', '12 cm', '1/2', '50%', '\\\\frac{1}{2}', 'A', '(B) 7', 'the red ball', '1,234', '']\n"
        "[answers.equivalent(first, second) for first in plain for second in plain]\n"
        "answers.group(plain)\n"
        "print(answers._ALGEBRA.pid)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "None\n"


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.02)
