"""A model that lmms-eval has registered, thinking slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from atomthink_plugin.api import AtomThinkError
from atomthink_plugin.config import Plan
from atomthink_plugin.model_adapters.lmms_models import AtomThinkModel
from atomthink_plugin.model_adapters.registered_policy import RegisteredPolicy


class AtomThinkLmms(AtomThinkModel):
    """Another model of the harness's, by `base=`; its own arguments are `base_args:` of the `config=` file."""

    name: ClassVar[str] = "lmms"
    policy: ClassVar[str] = "lmms"
    defaults: ClassVar[Mapping[str, Any]] = {"format": "atomic"}

    @classmethod
    def _planned(cls, model_args: Mapping[str, Any], batch_size: int | str, device: str | None) -> Plan:
        planned = super()._planned(model_args, batch_size, device)
        if planned.identity["scorer"]["kind"] == "confidence":
            raise AtomThinkError(
                "`scorer=confidence` needs log-probabilities, and a model of lmms-eval gives none: name a process "
                "reward model with `prm=`"
            )
        return planned

    def clean(self) -> None:
        """Lets the base free what it holds, in its own way."""
        if self._loaded is not None and isinstance(self._loaded.policy, RegisteredPolicy):
            self._loaded.policy.base.model.clean()
        super().clean()
