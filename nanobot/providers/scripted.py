"""A provider that answers from a script: for tests, demos and benchmarks, without any model.

In code, give `ScriptedProvider` replies in order, or a function from request to reply. On the command
line, name a JSON file as the model, `scripted/<path>`:

    {"replies": [
       {"text": "Let me look.", "tool_calls": [{"name": "read_file", "arguments": {"path": "a.txt"}}]},
       {"text": "It says hello.", "chunks": ["It says ", "hello."], "reasoning": "Short file."},
       {"when": "weather", "text": "Sunny."},
       {"error": "rate_limit", "message": "Slow down.", "retry_after": 1},
       {"text": "Partly", "hang": true}
     ],
     "loop": false,
     "traits": {"supports_images": false}}

Each request takes the first unused reply whose `when` is part of the newest user message (no `when`
fits any), so sessions that run at the same time get what was written for them. `text` and `reasoning`
are streamed, `chunks` says in which pieces; then comes `delay` (seconds) or `hang` (for ever), and
then the completion or the `error` (auth, quota, rate_limit, overloaded, context_too_long,
bad_request, unreachable, broken_stream). `arguments` given as a string make a malformed call.
`loop` uses the replies again when none is left.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanobot.errors import (
    AuthError,
    BadRequestError,
    BrokenStreamError,
    ContextTooLongError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    UnreachableError,
    UsageError,
)
from nanobot.messages import Message, ReasoningPart, ToolCall, Usage
from nanobot.providers.base import (
    Completion,
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelTraits,
    ReasoningChunk,
    TextChunk,
)

_ERRORS: dict[str, type[ProviderError]] = {
    "auth": AuthError,
    "quota": QuotaError,
    "rate_limit": RateLimitError,
    "overloaded": OverloadedError,
    "context_too_long": ContextTooLongError,
    "bad_request": BadRequestError,
    "unreachable": UnreachableError,
    "broken_stream": BrokenStreamError,
}


@dataclass(frozen=True)
class Reply:
    """One scripted answer; the fields are those of the file format above.

    A call with an empty id gets one from its place in the conversation. `wait` is awaited after
    the chunks (and after `delay`), which lets a test hold an answer back. `usage` None is estimated.
    """

    text: str = ""
    tool_calls: Sequence[ToolCall] = ()
    reasoning: str = ""
    chunks: Sequence[str] = ()
    error: ProviderError | None = None
    delay: float = 0.0
    wait: asyncio.Event | None = field(default=None, compare=False)
    when: str = ""
    usage: Usage | None = None
    finish_reason: FinishReason | None = None


Script = Sequence[Reply | str] | Callable[[ModelRequest], Reply | str]


class ScriptedProvider:
    """Answers with `steps`: replies in order (text alone is a reply), or a function. Never retries.

    `requests` holds every request it was given. Raises ProviderError when no reply is left.
    """

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
            yield ReasoningChunk(reply.reasoning)
        for chunk in reply.chunks or ([reply.text] if reply.text else []):
            yield TextChunk(chunk)
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
        said = _newest_user_text(request)
        reply = _take(self._unused, said)
        if reply is None and self._loop:
            self._unused += [reply for reply in self._replies if reply.when in said]
            reply = _take(self._unused, said)
        if reply is None:
            raise ProviderError(
                f"The script has no reply left for {said[:60]!r} (request {len(self.requests)}); add one."
            )
        return reply


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
        raise UsageError(
            f"The script {path} cannot be used ({type(error).__name__}: {error}); "
            "its format is described in nanobot/providers/scripted.py."
        ) from error


def _reply_from_json(entry: Mapping[str, Any]) -> Reply:
    known = {"text", "reasoning", "chunks", "delay", "when", "finish_reason"}
    special = {"tool_calls", "error", "message", "retry_after", "hang", "usage"}
    if unknown := entry.keys() - known - special:
        raise ValueError(f"unknown key {min(unknown)!r} in a reply")
    error = None
    if "error" in entry:
        message = entry.get("message", f"The script says: {entry['error']}.")
        error = _ERRORS[entry["error"]](message, retry_after=entry.get("retry_after"))
    return Reply(
        **{key: entry[key] for key in known & entry.keys()},
        tool_calls=[_call_from_json(call) for call in entry.get("tool_calls", ())],
        error=error,
        wait=asyncio.Event() if entry.get("hang") else None,
        usage=Usage(**entry["usage"]) if "usage" in entry else None,
    )


def _call_from_json(call: Mapping[str, Any]) -> ToolCall:
    arguments = call.get("arguments", {})
    raw = arguments if isinstance(arguments, str) else ""
    return ToolCall(call.get("id", ""), call["name"], {} if raw else dict(arguments), malformed=raw)


def _as_reply(step: Reply | str) -> Reply:
    return Reply(text=step) if isinstance(step, str) else step


def _take(replies: list[Reply], said: str) -> Reply | None:
    for index, reply in enumerate(replies):
        if reply.when in said:
            return replies.pop(index)
    return None


def _newest_user_text(request: ModelRequest) -> str:
    return next((message.text for message in reversed(request.messages) if message.role == "user"), "")


def _completion(reply: Reply, request: ModelRequest) -> Completion:
    place = len(request.messages)
    calls = [
        ToolCall(call.id or f"call_{place}_{index}", call.name, call.arguments, call.malformed, call.extra)
        for index, call in enumerate(reply.tool_calls)
    ]
    text = reply.text or "".join(reply.chunks)
    reasoning = [ReasoningPart(reply.reasoning, provider="scripted")] if reply.reasoning else []
    spoken = Message.assistant(text).parts
    return Completion(
        Message("assistant", (*reasoning, *spoken, *calls)),
        reply.usage or _estimate(request, text),
        reply.finish_reason or ("tool_calls" if calls else "stop"),
    )


def _estimate(request: ModelRequest, text: str) -> Usage:
    """About four characters a token, as everywhere in nanobot."""
    prompt = len(request.system) + sum(len(message.text) for message in request.messages)
    return Usage(input_tokens=prompt // 4, output_tokens=len(text) // 4)
