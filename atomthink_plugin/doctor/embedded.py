"""Whether the embedded model answers, which is what the demo needs."""

from __future__ import annotations

from atomthink_plugin.doctor.findings import Finding, Problem

_NAME = "embedded model"


def embedded_model() -> Finding:
    """Asks the embedded policy one question about a figure, with a search that loads the embedded PRM too."""
    try:
        return Finding([(_NAME, _answer())])
    except (Exception, SystemExit) as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        return Finding([(_NAME, "fails")], [Problem(f"`atomthink demo` fails: {line}.", broken=True)])


def _answer() -> str:
    from PIL import Image
    from transformers.utils.logging import disable_progress_bar

    from atomthink_plugin.api import Message, Question
    from atomthink_plugin.named_models import plan_for
    from atomthink_plugin.runtime.build import build
    from atomthink_plugin.runtime.event_loop import run

    disable_progress_bar()  # type: ignore[no-untyped-call]
    runner = build(plan_for("atomthink_tiny", {"thinking": "slow", "search": "greedy", "max_steps": 2}))
    figure = Image.new("RGB", (64, 64), "white")
    outcome = run(runner.think(Question("doctor", (Message("user", (figure, "What is 1 + 1?")),))))
    return f"answers ({outcome.usage.generated} tokens, {outcome.usage.score_calls} PRM calls)"
