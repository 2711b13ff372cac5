"""The command `atomthink view`: a page of one run, or of two runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from rich.console import Console

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.report.page_html import LIMIT, write_page
from atomthink_plugin.report.run_reader import RecordedRun, read_all


def view(runs: Sequence[Path], output: Path, journals: Sequence[Path]) -> None:
    """Writes the page.

    Args:
        runs: One or two runs, see `run_reader.read`.
        output: The file. It is replaced only when the page is complete.
        journals: The journal of each run, empty to find them.

    Raises:
        AtomThinkError: A run cannot be read, two runs have no common question, or the file cannot be written.
    """
    if len(runs) > 2:
        raise AtomThinkError(f"{len(runs)} runs were given. A page shows one run or two")
    console = Console(stderr=True)
    with console.status("Reading the runs") if console.is_terminal else nullcontext():
        recorded = read_all(runs, journals)
    if len(recorded) == 2:
        _check_common(*recorded)
    with _replacing(output) as file:
        write_page(file, recorded, progress=True)
    size = output.stat().st_size
    print(f"{output}: {len(recorded[0].questions)} questions, {size / 1e6:.1f} MB")
    if size > LIMIT:
        print(f"A browser may be slow with more than {LIMIT / 1e6:.0f} MB. Run fewer questions or smaller searches")


@contextmanager
def _replacing(output: Path) -> Iterator[TextIO]:
    """Opens a file that replaces `output` when it is complete."""
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise AtomThinkError(f"`--out {output}` cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


def _check_common(first: RecordedRun, second: RecordedRun) -> None:
    if not {question.id for question in first.questions} & {question.id for question in second.questions}:
        raise AtomThinkError(
            f"`{first.name}` ({', '.join(first.tasks)}) and `{second.name}` ({', '.join(second.tasks)}) have no "
            "common question. View them in separate pages"
        )
