"""The plugins of other packages, and what lmms-eval finds and imports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Final

from atomthink_plugin.doctor.findings import Finding, Problem

_GROUP: Final = "lmms_eval.models"
"""The entry points by which packages offer models to lmms-eval."""


def plugins() -> Finding:
    """Looks at what other packages offer to this one."""
    from atomthink_plugin.plugins.registry import registry

    found = registry().plugins
    facts = [("plugin", f"{one.name}, of {one.package}: {_offers(one.offers)}") for one in found]
    problems = [Problem(f"Plugin {one.name} of {one.package} {text}.") for one in found for text in one.problems]
    return Finding(facts or [("plugins", "none of other packages")], problems)


def _offers(names: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{hook} {', '.join(each)}" for hook, each in names.items()) or "nothing that can be used"


def models() -> Finding:
    """Looks at the models that packages register with lmms-eval. An entry point that fails hides all later ones."""
    try:
        from lmms_eval.models import MODEL_REGISTRY_V2
    except Exception as error:
        text = f"lmms-eval cannot be imported: {type(error).__name__}: {error}."
        return Finding([("lmms-eval", "cannot be imported")], [Problem(text, broken=True)])
    known = [name for name in MODEL_REGISTRY_V2.list_canonical_model_ids() if name.startswith("atomthink_")]
    faults = list(_faults())
    packages = {point.dist.name for point in entry_points(group=_GROUP) if point.dist is not None}
    text = f"{len(known)} models `atomthink_...`; entry points of {', '.join(sorted(packages)) or 'no package'}"
    problems = [Problem(f"A package breaks the models of lmms-eval: {fault}.", broken=not known) for fault in faults]
    if not (known or faults):
        advice = "install atomthink-plugin again, its entry point is missing"
        problems.append(Problem(f"lmms-eval does not know `--model atomthink_...`: {advice}.", broken=True))
    return Finding([("lmms-eval", text)], problems)


def _faults() -> Iterator[str]:
    for point in entry_points(group=_GROUP):
        try:
            payload = point.load()
            if callable(payload):
                payload()
        except (Exception, SystemExit) as error:
            yield f"the entry point {point.name} ({point.value}) fails with {type(error).__name__}: {error}"


def harness_imports() -> Finding:
    """Looks at modules that lmms-eval imports without declaring them, or in versions that conflict."""
    problems = []
    try:
        import math_verify  # noqa: F401
    except Exception as error:
        effect = f"math-verify cannot be imported ({error}), so searches and tasks cannot compare answers"
        problems.append(Problem(f"{effect}: `pip install --force-reinstall 'math-verify[antlr4-13-2]'`."))
    if find_spec("decord") is None:
        effect = "`--model qwen2_5_vl` and other models of lmms-eval's own, also as `base=`, import decord"
        problems.append(Problem(f"{effect}, which is not installed: `pip install decord`."))
    return Finding(problems=problems)
