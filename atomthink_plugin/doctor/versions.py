"""The installed versions of this package and its requirements, and the supported versions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, version
from typing import Final

from packaging.requirements import Requirement
from packaging.version import Version

from atomthink_plugin.doctor.findings import Finding, Problem
from atomthink_plugin.tables import Grid

DISTRIBUTION: Final = "atomthink-plugin"

SHOWN: Final = ("lmms-eval", "torch", "transformers", "accelerate", "datasets", "openai", "vllm", "trl")
"""The packages of the table. All other requirements are checked too, and named if they are not met."""

TESTED: Final = {"lmms-eval": "0.7.3", "transformers": "5.24", "vllm": "0.33"}
"""The newest tested version of packages whose interfaces change."""

EXTRAS: Final = {
    "vllm": "`lmms-eval --model atomthink_vllm`",
    "train": "`atomthink train`",
    "report": "`atomthink scale --png` and `--svg`",
}
"""The commands that need an extra of this package."""


def versions() -> Finding:
    """Looks at what is installed, and whether it is missing, out of range or newer than tested."""
    about = metadata(DISTRIBUTION)
    python = ".".join(map(str, sys.version_info[:3]))
    supported = about["Requires-Python"] or ""
    requirements = [Requirement(text) for text in about.get_all("Requires-Dist") or ()]
    ranges = {one.name: _range(one) for one in requirements if _is_used(one)}
    rows = [(DISTRIBUTION, about["Version"], "", ""), ("Python", python, supported, "")]
    rows += [(name, _shown_version(name), ranges.get(name, ""), TESTED.get(name, "")) for name in SHOWN]
    problems = [*_python_problem(python, supported), *_unmet(requirements), *_untested()]
    table = Grid("", ("package", "installed", "supported", "newest tested"), rows, left=frozenset({1, 2, 3}))
    return Finding(problems=problems, table=table)


def _python_problem(python: str, supported: str) -> Iterator[Problem]:
    if not Requirement(f"python{supported}").specifier.contains(python, prereleases=True):
        yield Problem(f"Python {python} is not supported: use a Python {supported}.", broken=True)


def _is_used(requirement: Requirement, extra: str | None = None) -> bool:
    """Whether a requirement holds on this platform, for an extra, or for none or one of `EXTRAS`."""
    extras = ("", *EXTRAS) if extra is None else (extra,)
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in extras)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _shown_version(name: str) -> str:
    found = _installed(name)
    if name != "torch" or found is None:
        return found or "not installed"
    return f"{found} ({_torch_build()})"


def _torch_build() -> str:
    try:
        import torch
    except (Exception, SystemExit):
        return "cannot be imported"  # the probe of the devices says why
    if torch.version.cuda is not None:
        return f"CUDA {torch.version.cuda}"
    return f"ROCm {torch.version.hip}" if torch.version.hip is not None else "no CUDA"


def _unmet(requirements: list[Requirement]) -> Iterator[Problem]:
    """Yields what is missing or out of range: one problem for each requirement, and one for each incomplete extra."""
    for one in requirements:
        if _is_used(one, ""):
            found = _installed(one.name)
            if found is None or not one.specifier.contains(found, prereleases=True):
                state = "is not installed" if found is None else f"{found} is installed, which is out of range"
                yield Problem(f"{one.name} {state}: `pip install '{_bare(one)}'`.", broken=True)
    for extra, commands in EXTRAS.items():
        parts = [one for one in requirements if _is_used(one, extra) and not _is_used(one, "")]
        missing = [one.name for one in parts if _installed(one.name) is None]
        wrong = [one for one in parts if one.name not in missing and not one.specifier.contains(version(one.name))]
        if missing:
            advice = f"`pip install '{DISTRIBUTION}[{extra}]'`"
            yield Problem(f"{commands}: {' and '.join(missing)} not installed: {advice}.")
        for one in wrong:
            yield Problem(f"{commands}: {one.name} {version(one.name)} is out of range: `pip install '{_bare(one)}'`.")


def _bare(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{_range(requirement)}"


def _range(requirement: Requirement) -> str:
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))  # the lower bound first


def _untested() -> Iterator[Problem]:
    for name, newest in TESTED.items():
        found, tested = _installed(name), Version(newest)
        if found is not None and Version(found).release[: len(tested.release)] > tested.release:
            yield Problem(
                f"{name} {found} is newer than {newest}, the newest tested version: if runs fail, "
                f"`pip install '{name}=={newest}.*'`."
            )
