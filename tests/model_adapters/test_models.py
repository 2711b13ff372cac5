"""The models that have names, and their classes for lmms-eval."""

from __future__ import annotations

from atomthink_plugin.model_adapters.models import MODELS
from atomthink_plugin.model_adapters.register import CLASSES, CRITIC, model_class


def test_every_model_has_a_class_that_bears_its_name() -> None:
    assert {*CLASSES} == {*MODELS, CRITIC}
    assert all(model_class(name).model == name for name in CLASSES)
