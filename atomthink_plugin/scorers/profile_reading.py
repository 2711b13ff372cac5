"""What a profile makes of a checkpoint's tokenizer and processor: the layout of its input, and the ids to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atomthink_plugin.inference.checkpoints import Checkpoint
from atomthink_plugin.inference.encoding import Encoder
from atomthink_plugin.inference.preprocessors import Preprocessor
from atomthink_plugin.scorers.layouts.image_rules import limit_images
from atomthink_plugin.scorers.layouts.layout_encoder import LayoutEncoder
from atomthink_plugin.scorers.prm_profile import Profile, TaggedLayout
from atomthink_plugin.scorers.readouts import read_tokens
from atomthink_plugin.scorers.token_ids import checked_ids


@dataclass(frozen=True, slots=True)
class ProfileReading:
    """How the input of one PRM is written and read.

    Attributes:
        profile: The profile.
        layout: Writes the input; it is read at its last token.
        ids: Token ids by text, those of the profile's tag, good and bad token included.
        encoder: Prepares the images; None for a PRM that reads text alone.
    """

    profile: Profile
    layout: LayoutEncoder
    ids: Mapping[str, int]
    encoder: Encoder | None


def profile_reading(source: Checkpoint | Preprocessor, name: str, profile: Profile) -> ProfileReading:
    """Returns how a profile's PRM is read with the tokenizer and processor of a checkpoint.

    Raises:
        AtomThinkError: The tokenizer has other ids than the profile.
    """
    tag = profile.layout.tag if isinstance(profile.layout, TaggedLayout) else ""
    ids = checked_ids(source.tokenizer, read_tokens(profile), profile.ids, name, tag)
    encoder: Encoder | None = None
    if source.processor is not None and profile.images.use != "none":
        limit_images(source.processor, profile.images, name)
        encoder = Encoder(source, placeholder=profile.images.token)
    return ProfileReading(profile, LayoutEncoder(name, profile, source.tokenizer, encoder, ids.get(tag)), ids, encoder)
