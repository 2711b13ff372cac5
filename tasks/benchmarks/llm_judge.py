"""An optional second verdict by lmms-eval's LLM judge; it needs a key and `ATOMTHINK_LLM_JUDGE=1`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from atomthink_plugin.redaction import printable, redact

ENABLED: Final = "ATOMTHINK_LLM_JUDGE"

_VERDICT: Final = re.compile(r"\W*([01])\W*")


def llm_verdict(question: Callable[[], str], answer: str, response: str) -> dict[str, Any] | None:
    """Returns the judge's verdict on a response, None unless `ATOMTHINK_LLM_JUDGE=1`.

    Returns:
        `correct` and the judge's `model`. If the judge fails or its reply is neither 0 nor 1, `correct` is None and
        `error` has the reason; such a reply counts as no verdict.
    """
    if os.environ.get(ENABLED) != "1":
        return None
    model = os.environ.get("MODEL_VERSION", "gpt-4o-2024-11-20")
    try:
        reply = _server(os.environ.get("API_TYPE", "openai"), model).evaluate_binary(
            question=question(), answer=answer, prediction=response, output_format="0/1"
        )
    except Exception as error:  # an error of the service must not end the run
        return {"correct": None, "model": model, "error": printable(f"{type(error).__name__}: {error}")}
    if not reply["success"]:
        return {"correct": None, "model": model, "error": printable(str(reply["raw_response"]))}
    verdict = _VERDICT.fullmatch(reply["raw_response"])
    if verdict is None:  # lmms-eval's parser would accept any text that contains a 1
        return {"correct": None, "model": model, "error": redact(f"neither 0 nor 1: {reply['raw_response']!r}")}
    return {"correct": verdict[1] == "1", "model": reply["model"]}


@lru_cache(maxsize=1)
def _server(kind: str, model: str) -> Any:
    from lmms_eval.llm_judge import ServerConfig, get_server

    return get_server(kind, ServerConfig(model_name=model, num_retries=3, retry_delay=2))
