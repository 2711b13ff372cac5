"""vLLM in this process: an engine that outlives the event loops of the runs that ask it."""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from atomthink_plugin.api import AtomThinkError, QuestionError
from atomthink_plugin.inference.encoding import MAX_PIXELS
from atomthink_plugin.inference.phases import PhaseClock

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs, RequestOutput, SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.v1.engine.async_llm import AsyncLLM


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

    async def generate(self, prompt: TokensPrompt, params: SamplingParams) -> RequestOutput:
        """Returns what one request gives, once it is finished; cancelling aborts it.

        Raises:
            QuestionError: vLLM refuses the prompt, or fails on it alone.
            AtomThinkError: The engine is dead.
        """
        with self.clock.request(params.n):
            asked = asyncio.run_coroutine_threadsafe(self._generate(prompt, params), self._loop)
            return await asyncio.wrap_future(asked)

    async def _generate(self, prompt: TokensPrompt, params: SamplingParams) -> RequestOutput:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            # `generate` takes raw prompts too, which vLLM has deprecated.
            (rendered,) = await self._engine.renderer.render_cmpl_async([prompt])
            async for output in self._engine.generate(rendered, params, request_id=f"step-{next(self._numbers)}"):
                finished = output
        except EngineDeadError as error:
            raise AtomThinkError(
                "vLLM's engine died, see its log above for the reason (often memory: lower gpu_memory_utilization= or "
                "max_model_len=); run again to continue with the remaining questions"
            ) from error
        except Exception as error:  # one question's: too long, images that the model cannot take
            raise QuestionError(f"vLLM refuses the question: {_message(error)}") from error
        return finished

    def close(self) -> None:
        """Ends the engine's processes and frees its memory; so does the end of this object's life."""
        self._close()


def _engine_args(arguments: Mapping[str, Any]) -> AsyncEngineArgs:
    try:
        from vllm import AsyncEngineArgs
    except ImportError as error:
        raise AtomThinkError(
            f"policy=vllm needs vLLM ({error}): pip install 'atomthink-plugin[vllm]', or serve the model elsewhere "
            "and use policy=openai"
        ) from error
    try:
        return AsyncEngineArgs(**arguments)
    except TypeError as error:
        raise AtomThinkError(f"`engine={{...}}` is refused by vLLM: {error}") from error


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
