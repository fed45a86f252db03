"""A provider that answers from a script: for tests, demos and benchmarks, without any model.

In code, give `ScriptedProvider` replies in order, or a function from request to reply. On the command
line, name a JSON file as the model, `scripted/<path>`:

    {"replies": [
       {"text": "Let me look.", "tool_calls": [{"name": "read_file", "arguments": {"path": "a.txt"}}]},
       {"when": "weather", "chunks": ["Sun", "ny."], "reasoning": "Look outside.", "delay": 0.5},
       {"error": "rate_limit", "message": "Slow down.", "retry_after": 1},
       {"text": "Partly", "hang": true}],
     "loop": false, "traits": {"supports_images": false}}

A request takes the first unused reply whose `when` is part of the newest user message (none fits any).
After its chunks comes `delay` (seconds) or `hang` (for ever), then the completion or the `error`, named
after a class of `nanobot.errors`. `arguments` given as a string make a malformed call. `loop` uses the
replies again when none is left.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanobot import errors
from nanobot.errors import ProviderError, UsageError
from nanobot.messages import Message, ReasoningPart, ToolCall, Usage
from nanobot.providers import base
from nanobot.providers.base import Completion, ModelEvent, ModelRequest, ModelTraits


@dataclass(frozen=True)
class Reply:
    """One scripted answer, as in the file above; `wait` is `hang`. A call without id gets one."""

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    reasoning: str = ""
    chunks: Sequence[str] = ()
    error: ProviderError | None = None
    delay: float = 0.0
    wait: asyncio.Event | None = field(default=None, compare=False)
    when: str = ""
    usage: Usage | None = None  # None: estimated
    finish_reason: base.FinishReason | None = None


Script = Sequence[Reply | str] | Callable[[ModelRequest], Reply | str]


class ScriptedProvider:
    """Answers with replies in order (text alone is a reply), or by a function; keeps the `requests`."""

    name = "scripted"

    def __init__(self, steps: Script, *, loop: bool = False, traits: ModelTraits | None = None) -> None:
        self._answer = steps if callable(steps) else None
        self._replies = [] if callable(steps) else [_as_reply(step) for step in steps]
        self._unused = list(self._replies)
        self._loop = loop
        self._traits = traits or ModelTraits()
        self.requests: list[ModelRequest] = []
        self.closed = False

    def traits(self, model: str) -> ModelTraits:
        return self._traits

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        reply = self._next(request)
        if reply.reasoning:
            yield base.ReasoningChunk(reply.reasoning)
        for chunk in reply.chunks or ([reply.text] if reply.text else []):
            yield base.TextChunk(chunk)
        await asyncio.sleep(reply.delay)
        if reply.wait is not None:
            await reply.wait.wait()
        if reply.error is not None:
            raise reply.error
        yield _completion(reply, request)

    async def aclose(self) -> None:
        self.closed = True

    def _next(self, request: ModelRequest) -> Reply:
        if self._answer is not None:
            return _as_reply(self._answer(request))
        said = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
        fitting = [reply for reply in self._unused if reply.when in said]
        if not fitting and self._loop:
            fitting = [reply for reply in self._replies if reply.when in said]
            self._unused += fitting
        if not fitting:
            number = len(self.requests)
            raise ProviderError(f"The script has no reply left for {said[:60]!r} (request {number}).")
        self._unused.remove(fitting[0])
        return fitting[0]


def scripted_from_file(path: Path) -> ScriptedProvider:
    """Read a script (format above). Raises UsageError naming the file and what is wrong with it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        replies = [_reply_from_json(entry) for entry in data["replies"]]
        traits = ModelTraits(**data.get("traits", {}))
        return ScriptedProvider(replies, loop=bool(data.get("loop", False)), traits=traits)
    except OSError as error:
        raise UsageError(f"Cannot read the script {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
        raise UsageError(f"The script {path} cannot be used ({fault}); see {__name__}.") from error


def _reply_from_json(entry: Mapping[str, Any]) -> Reply:
    fields = dict(entry)
    message, wait = fields.pop("message", ""), fields.pop("retry_after", None)
    if name := fields.get("error"):
        kind = getattr(errors, f"{name.title().replace('_', '')}Error")
        fields["error"] = kind(message or f"The script says: {name}.", retry_after=wait)
    if fields.pop("hang", False):
        fields["wait"] = asyncio.Event()
    if "usage" in fields:
        fields["usage"] = Usage(**fields["usage"])
    calls = fields["tool_calls"] = []
    for call in entry.get("tool_calls", ()):
        given = call.get("arguments", {})
        arguments, malformed = ({}, given) if isinstance(given, str) else (dict(given), "")
        calls.append(ToolCall(call.get("id", ""), call["name"], arguments, malformed))
    return Reply(**fields)


def _as_reply(step: Reply | str) -> Reply:
    return Reply(text=step) if isinstance(step, str) else step


def _completion(reply: Reply, request: ModelRequest) -> Completion:
    place = len(request.messages)
    made = () if reply.finish_reason in ("length", "refusal") else reply.tool_calls
    calls = [call._replace(id=call.id or f"call_{place}_{index}") for index, call in enumerate(made)]
    text = reply.text or "".join(reply.chunks)
    reasoning = [ReasoningPart(reply.reasoning, provider="scripted")] if reply.reasoning else []
    prompt = len(request.system) + sum(len(message.text) for message in request.messages)
    return Completion(
        Message("assistant", (*reasoning, *Message.assistant(text).parts, *calls)),
        reply.usage or Usage(prompt // 4, len(text) // 4),  # about four characters a token
        reply.finish_reason or ("tool_calls" if calls else "stop"),
    )
