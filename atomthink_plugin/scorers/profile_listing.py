"""The table of published process reward models: what each is, how it is read, and what its profile says about use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from atomthink_plugin.scorers.prm_profile import AskedLayout, Profile, PublishedModel, TaggedLayout
from atomthink_plugin.scorers.profile_catalogue import NamedProfile
from atomthink_plugin.scorers.vllm_command import not_served, vllm_command
from atomthink_plugin.tables import Grid

HEADINGS: Final = (
    "profile",
    "hub id",
    "layout",
    "read-out",
    "read at",
    "images",
    "loader",
    "threshold",
    "aggregate",
    "licence",
    "verified",
)

_TEXTS: Final = frozenset(range(1, len(HEADINGS))) - {7}


def profile_grid(profiles: Mapping[str, NamedProfile]) -> Grid:
    """Returns the table of profiles, in the order of their names."""
    rows = [profile_row(profiles[name]) for name in sorted(profiles)]
    return Grid(
        "Published process reward models",
        HEADINGS,
        rows,
        left=_TEXTS,
        elastic=frozenset({1, 9}),
        caption="`atomthink prm profiles NAME` prints a whole profile. `transcription`: written from the authors' code "
        "and texts, not yet compared with a published number on the real weights.",
    )


def profile_row(found: NamedProfile) -> tuple[str, ...]:
    """Returns the row of one profile."""
    model = found.model
    more = len(model.names) - 1
    return (
        found.name,
        model.names[0] + (f" and {more} more" if more else ""),
        *_reading(model),
        model.images.use,
        model.loader,
        f"{'>' if model.strict else '>='} {model.threshold:g}",
        model.aggregate if "aggregate" in model.model_fields_set else "",
        model.licence,
        model.verified,
    )


def served_with(model: PublishedModel) -> str | None:
    """Returns the command that serves a PRM with vLLM; None if it is not served or is a policy, as a critic is."""
    return vllm_command(model) if isinstance(model, Profile) and not_served(model) is None else None


def _reading(model: PublishedModel) -> tuple[str, str, str]:
    """Returns the layout, the read-out and where the PRM is read."""
    if not isinstance(model, Profile):
        return "asked", "pair", "after a critique"
    layout = model.layout
    if isinstance(layout, TaggedLayout):
        role = "bare text" if layout.role == "none" else f"{layout.role} turn"
        return f"tagged, {role}", model.read.kind, "tag" if layout.tag else "last token of the step"
    begun = isinstance(layout, AskedLayout) and layout.begin
    return layout.kind, model.read.kind, "beginning of the reply" if begun else "header of the reply"
