"""A second opinion by lmms-eval's own LLM judge, for those who have a key and ask for it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from atomthink_plugin.redaction import printable, redact

ASKED_FOR: Final = "ATOMTHINK_LLM_JUDGE"

_VERDICT: Final = re.compile(r"\W*([01])\W*")


def opinion(question: Callable[[], str], answer: str, reply: str) -> dict[str, Any] | None:
    """Returns the judge's verdict on a reply; None unless `ATOMTHINK_LLM_JUDGE=1`.

    Returns:
        `correct`, and the `model` that said so. A judge that cannot be asked, or says neither yes nor no, has
        `correct` None and the `error`: it never counts as a verdict.
    """
    if os.environ.get(ASKED_FOR) != "1":
        return None
    model = os.environ.get("MODEL_VERSION", "gpt-4o-2024-11-20")
    try:
        said = _server(os.environ.get("API_TYPE", "openai"), model).evaluate_binary(
            question=question(), answer=answer, prediction=reply, output_format="0/1"
        )
    except Exception as error:  # a foreign service: whatever goes wrong, the run goes on
        return {"correct": None, "model": model, "error": printable(f"{type(error).__name__}: {error}")}
    if not said["success"]:
        return {"correct": None, "model": model, "error": printable(str(said["raw_response"]))}
    verdict = _VERDICT.fullmatch(said["raw_response"])
    if verdict is None:  # the harness's own parser takes any text with a 1 in it for a yes
        return {"correct": None, "model": model, "error": redact(f"neither 0 nor 1: {said['raw_response']!r}")}
    return {"correct": verdict[1] == "1", "model": said["model"]}


@lru_cache(maxsize=1)
def _server(kind: str, model: str) -> Any:
    from lmms_eval.llm_judge import ServerConfig, get_server

    return get_server(kind, ServerConfig(model_name=model, num_retries=3, retry_delay=2))
