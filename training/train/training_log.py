"""The log of a training: one JSON line per measurement in a file, and one short line in the terminal."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from atomthink_plugin.append_log import AppendLog, encode_json

log = logging.getLogger(__name__)

_NAMES: Final = {"mean_token_accuracy": "token_accuracy", "num_tokens": "tokens"}
_LEFT_OUT: Final = ("entropy", "epoch")


class JsonLog(TrainerCallback):
    """Writes every measurement of a trainer to a file; a resumed run continues the file at its checkpoint.

    Args:
        file: JSON lines: step, epoch, loss, learning_rate, tokens/s, seconds, and what else the trainer measures.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._started = self._last = 0.0
        self._first = 0  # the step this process began at
        self._before = 0  # tokens of the run that is resumed
        self._tokens = 0  # as of the last measurement

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keeps the lines of an earlier run up to the step that is resumed from."""
        self._started = self._last = time.perf_counter()
        self._first = state.global_step
        if state.is_world_process_zero:
            self._log = AppendLog(self._file, "`output_dir`", lock=False)
            # Later lines, such as an incomplete last one, are of steps that are repeated.
            before = self._log.entries() if self._first else ()
            kept = [entry.record for entry in before if entry.record["step"] <= self._first]
            self._log.rewrite(map(encode_json, kept))
            self._before = self._tokens = kept[-1].get("tokens", 0) if kept else 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks for a measurement at the first and the last step, whatever `logging_steps` is."""
        if state.global_step in (self._first + 1, state.max_steps):
            control.should_log = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes one measurement."""
        if not state.is_world_process_zero or not logs or "loss" not in logs:
            return
        now = time.perf_counter()
        record: dict[str, float] = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        record |= {_NAMES.get(name, name): value for name, value in logs.items() if name not in _LEFT_OUT}
        if "tokens" in record:
            tokens = self._before + int(record["tokens"])
            record["tokens_per_second"] = (tokens - self._tokens) / max(now - self._last, 1e-9)
            record["tokens"] = self._tokens = tokens
        record["seconds"] = now - self._started
        self._last = now
        self._log.append({name: _short(value) for name, value in record.items()})
        log.info("%s", self._line(record, state))

    def _line(self, record: dict[str, float], state: TrainerState) -> str:
        done = max(state.global_step - self._first, 1)
        left = record["seconds"] / done * (state.max_steps - state.global_step)
        parts = [f"step {state.global_step}/{state.max_steps}", f"loss {record['loss']:.4f}"]
        if "tokens_per_second" in record:
            parts.append(f"{record['tokens_per_second']:,.0f} tokens/s")
        return ", ".join([*parts, f"{left / 60:.1f} min left"])


def _short(value: float) -> float:
    return float(f"{value:.6g}") if isinstance(value, float) else value
