"""vLLM in this process: an engine that outlives the event loops of the runs that ask it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.inference.encoding import MAX_PIXELS
from atomthink_plugin.inference.phases import PhaseClock
from atomthink_plugin.runtime.event_loop import together

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs, RequestOutput, SamplingParams
    from vllm.config import VllmConfig
    from vllm.inputs import EngineInput, TokensPrompt
    from vllm.v1.engine.async_llm import AsyncLLM

log = logging.getLogger(__name__)


class VllmEngine:
    """vLLM's asynchronous engine, on an event loop and a thread of its own.

    It batches the requests of all questions and keeps a prefix cache.

    Args:
        arguments: Of vLLM's `AsyncEngineArgs`, by name.

    Attributes:
        clock: Measures the requests.

    Raises:
        AtomThinkError: vLLM is not installed, or cannot run this model here.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        args = _engine_args(arguments)
        self.clock = PhaseClock()
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name="atomthink-vllm", daemon=True)
        thread.start()
        try:
            engine = asyncio.run_coroutine_threadsafe(_start(args), self._loop).result()
        except BaseException as error:
            _stop_loop(self._loop, thread)
            if not isinstance(error, Exception):
                raise
            raise AtomThinkError(
                f"pretrained={arguments['model']!r}: vLLM cannot run it here ({_message(error)}): see its log above"
            ) from error
        _check_runner(engine.vllm_config)
        self._numbers = itertools.count()
        # Held in a list, so that the interpreter's end does not find an engine to end once more.
        self._held = [engine]
        self._close = weakref.finalize(self, _close, self._held, self._loop, thread)

    @property
    def _engine(self) -> AsyncLLM:
        return self._held[0]

    @property
    def dtype(self) -> str:
        """The precision it computes in, e.g. `bfloat16`."""
        return str(self._engine.vllm_config.model_config.dtype).removeprefix("torch.")

    @property
    def context(self) -> int:
        """Tokens of the longest sequence."""
        return int(self._engine.vllm_config.model_config.max_model_len)

    @property
    def most_pixels(self) -> int | None:
        """Pixels of the largest image the model was trained with, if its config has them."""
        most: int | None = getattr(self._engine.vllm_config.model_config.hf_config, MAX_PIXELS, None)
        return most

    async def generate(self, prompt: TokensPrompt, params: Sequence[SamplingParams]) -> list[RequestOutput]:
        """Returns what each request for one prompt gives, once all are finished; cancelling aborts them.

        Raises:
            QuestionError: vLLM refuses the prompt, or fails on it alone.
            AtomThinkError: The engine is dead.
        """
        with self.clock.request(len(params)):
            asked = asyncio.run_coroutine_threadsafe(self._generate(prompt, params), self._loop)
            return await asyncio.wrap_future(asked)

    async def _generate(self, prompt: TokensPrompt, params: Sequence[SamplingParams]) -> list[RequestOutput]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            first = rest = await self._render(prompt)
            if len(params) > 1 and _has_pixels(first):
                rest = await self._render(prompt)  # names the pixels, which thus travel once
            inputs = [first, *(rest for _ in params[1:])]
            return await together(*map(self._finished, inputs, params))
        except EngineDeadError as error:
            raise AtomThinkError(
                "vLLM's engine died, see its log above for the reason (often memory: lower gpu_memory_utilization= or "
                "max_model_len=); run again to continue with the remaining questions"
            ) from error
        except Exception as error:  # one question's: too long, images that the model cannot take
            raise QuestionError(f"vLLM refuses the question: {_message(error)}") from error

    async def _render(self, prompt: TokensPrompt) -> EngineInput:
        # `generate` takes raw prompts too, which vLLM has deprecated.
        (rendered,) = await self._engine.renderer.render_cmpl_async([prompt])
        return rendered

    async def _finished(self, prompt: EngineInput, params: SamplingParams) -> RequestOutput:
        async for output in self._engine.generate(prompt, params, request_id=f"step-{next(self._numbers)}"):
            finished = output
        return finished

    def close(self) -> None:
        """Ends the engine's processes and frees its memory; so does the end of this object's life."""
        self._close()


def _engine_args(arguments: Mapping[str, Any]) -> AsyncEngineArgs:
    try:
        from vllm import AsyncEngineArgs
        from vllm.platforms import current_platform
    except ImportError as error:
        raise AtomThinkError(
            f"policy=vllm needs vLLM ({error}): pip install 'atomthink-plugin[vllm]', or serve the model elsewhere "
            "and use policy=openai"
        ) from error
    if current_platform.is_cpu():
        # Its sampler cannot take back what a seeded request drew before its whole prompt was read, and ends the engine.
        arguments = {"enable_chunked_prefill": False, **arguments}
    try:
        return AsyncEngineArgs(**arguments)
    except TypeError as error:
        raise AtomThinkError(f"`engine={{...}}` is refused by vLLM: {error}") from error


def _check_runner(config: VllmConfig) -> None:
    """Warns if vLLM draws seeded samples one row after another."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu() or getattr(config, "use_v2_model_runner", False):
        return
    log.warning(
        "vLLM runs this model with its V1 model runner, which draws seeded samples one by one and is slower with many "
        "sequences: update vLLM, or set VLLM_USE_V2_MODEL_RUNNER=1 if your version has the V2 runner for this model"
    )


def _has_pixels(rendered: EngineInput) -> bool:
    """Returns whether a prompt holds images that vLLM's engine does not have yet."""
    items: Mapping[str, Sequence[Any]] = rendered.get("mm_kwargs", {})
    return any(item is not None for of_one_kind in items.values() for item in of_one_kind)


async def _start(args: AsyncEngineArgs) -> AsyncLLM:
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(args)


def _close(held: list[AsyncLLM], loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    asyncio.run_coroutine_threadsafe(_end(held.pop()), loop).result()
    _stop_loop(loop, thread)


async def _end(engine: AsyncLLM) -> None:
    engine.shutdown()
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def _stop_loop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _message(error: BaseException) -> str:
    """The message of vLLM's error: the error it wraps has none."""
    message = str(error) or str(error.__cause__ or "") or type(error).__name__
    return message.splitlines()[0]
