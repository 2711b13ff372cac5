"""A package with a model for lmms-eval whose replies are in a file, for runs of the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms

from atomthink_plugin.model_adapters.lmms_requests import ThoughtCounts

MODULE = """
from lmms_eval.models.registry_v2 import ModelManifest

def manifests():
    return [ModelManifest(model_id="scripted", chat_class_path="tests.tasks.scripted_plugin.Scripted")]
"""


def install(folder: Path, script: dict[str, str]) -> dict[str, str]:
    """Writes the package to a folder and returns the environment in which lmms-eval finds it.

    Args:
        folder: The folder.
        script: The reply by `task/doc_id`; `FAIL` makes the question fail. Other documents get their column `reply`,
            or their right answer if they have none.
    """
    info = folder / "scripted_model-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scripted-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lmms_eval.models]\nscripted = scripted_model:manifests\n")
    (folder / "scripted_model.py").write_text(MODULE)
    (folder / "script.json").write_text(json.dumps(script))
    paths = [str(folder), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "SCRIPT": str(folder / "script.json")}


class Scripted(lmms):  # type: ignore[misc]  # lmms_eval is untyped
    is_simple = False

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def generate_until(self, requests: list[Any]) -> list[Any]:
        script = json.loads(Path(os.environ["SCRIPT"]).read_text())
        replies = []
        for _, doc_to_messages, _, doc_id, task, split in (request.args for request in requests):
            doc = self.task_dict[task][split][doc_id]
            assert doc_to_messages(doc)[-1]["role"] == "user"
            usual = doc.get("reply") or f"Step 1: Look.\n\nStep 2: The final answer is: {doc['answer']}."
            reply = script.get(f"{task}/{doc_id}", usual)
            failed = reply == "FAIL"
            counts = ThoughtCounts(status="failed", error="scripted") if failed else TokenCounts(output_tokens=10)
            replies.append(GenerationResult("" if failed else reply, counts))
        return replies

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    def generate_until_multi_round(self, requests: Any) -> Any:
        raise NotImplementedError
