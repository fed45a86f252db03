"""The reading side of a wire protocol: stream events in, chunks and a completion out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nanobot.messages import Message, Part, ReasoningPart, TextPart, ToolCall, Usage
from nanobot.providers import base
from nanobot.providers.base import Completion, ModelEvent, ModelRequest, ReasoningChunk, TextChunk
from nanobot.providers.conversation import clean_text
from nanobot.providers.failures import Failures, error_in

_FINISH: dict[str, base.FinishReason] = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "pause_turn", "eos"), "stop"),
    **dict.fromkeys(("tool_calls", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "model_context_window_exceeded"), "length"),
    **dict.fromkeys(("refusal", "content_filter", "safety", "sensitive"), "refusal"),
}
# OpenRouter, Zhipu, DeepSeek and vLLM end a stream so when the model or its host failed.
_FAILED = {"error", "network_error", "insufficient_system_resource", "abort"}


@dataclass
class Block:
    """A part of an answer while its pieces arrive. Blocks of kind `other` are not kept."""

    kind: Literal["text", "reasoning", "call", "other"]
    id: str = ""
    name: str = ""
    signature: str = ""
    redacted: str = ""
    pieces: list[str] = field(default_factory=list, init=False)
    extra: dict[str, Any] = field(default_factory=dict, init=False)


class AnswerReader(ABC):
    """Turns the events of one answer into chunks and a Completion. Does no I/O.

    A wire maps its events to `blocks`, `finish` (its own word for why the model stopped) and `usage_report`.
    """

    def __init__(self, failures: Failures, request: ModelRequest, provider: str) -> None:
        self.blocks: dict[Hashable, Block] = {}
        self.finish = ""
        self.usage_report: dict[str, Any] = {}
        self.complete = False  # the model has finished: a connection that breaks now takes nothing away
        self.done = False  # the stream has ended: what still comes is ignored
        self._failures = failures
        self._request = request
        self._provider = provider

    @abstractmethod
    def read(self, event: Mapping[str, Any]) -> Iterator[ModelEvent]:
        """Map one event. Errors about its shape are dealt with by `feed`."""

    def feed(self, data: str) -> Iterator[ModelEvent]:
        """Take the data of one server-sent event. Raises ProviderError."""
        if data.strip() == "[DONE]":
            self.done = True
        if self.done:
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            raise self._failures.broken("a part of it is not JSON", data) from None
        if reported := error_in(event):
            raise self._failures.of_event(reported, self._request.model)
        try:
            yield from self.read(event)
        except (AttributeError, KeyError, TypeError) as error:  # wires do not look at every type first
            raise self._failures.broken("a part of it has an unknown shape", data) from error

    def add(self, block: Block, piece: Any) -> Iterator[ModelEvent]:
        """Add a piece to a block and show it if it is words. Raises TypeError for what is no text."""
        if not isinstance(piece, str):
            raise TypeError("text expected")
        block.pieces.append(piece)
        if piece and block.kind == "text":
            yield TextChunk(clean_text(piece))
        elif piece and block.kind == "reasoning":
            yield ReasoningChunk(clean_text(piece))

    @abstractmethod
    def usage(self) -> Usage:
        """The tokens counted in `usage_report`."""

    def completion(self) -> Completion:
        """The finished answer; no tool calls if it was cut or filtered. Raises BrokenStreamError."""
        if not self.complete or not self.finish:
            raise self._failures.broken("it ended before the model had finished")
        if self.finish in _FAILED:
            raise self._failures.of_event(f"finish reason {self.finish}", self._request.model)
        reason = self._reason({block.kind for block in self.blocks.values()})
        blocks = [block for block in self.blocks.values() if block.kind != "call" or reason == "tool_calls"]
        parts = tuple(part for block in blocks for part in self._finished(block))
        return Completion(Message("assistant", parts), self.usage(), reason)

    def _reason(self, kinds: set[str]) -> base.FinishReason:
        """Why the model stopped, by its word for it and by what it sent. Raises BrokenStreamError."""
        reason = _FINISH.get(self.finish)
        if reason in ("length", "refusal"):
            return reason
        if "call" in kinds and reason is not None:
            return "tool_calls"
        if "call" in kinds or (reason == "tool_calls" and "text" not in kinds):
            raise self._failures.broken(f"its tool calls do not fit the finish reason {self.finish!r}")
        return "stop"

    def _finished(self, block: Block) -> list[Part]:
        text = clean_text("".join(block.pieces))
        if block.kind == "text" and text:
            return [TextPart(text)]
        if block.kind == "reasoning":
            return [ReasoningPart(text, block.signature, block.redacted, self._provider)]
        if block.kind != "call":
            return []
        if not block.name:
            raise self._failures.broken("a tool call has no name")
        arguments, malformed = parse_arguments(text)
        return [ToolCall(clean_text(block.id), clean_text(block.name), arguments, malformed, block.extra)]


def parse_arguments(raw: str) -> tuple[dict[str, Any], str]:
    """The arguments of a finished tool call and, if they are no JSON object, the raw text again."""
    try:
        value = json.loads(raw.strip() or "{}")
        # Escapes may hide lone surrogates, which only show once decoded, and Python reads NaN.
        value = json.loads(clean_text(json.dumps(value, ensure_ascii=False, allow_nan=False)))
    except (ValueError, RecursionError):
        value = None
    return (value, "") if isinstance(value, dict) else ({}, raw)


def token_count(usage: Mapping[str, Any], *path: str) -> int:
    """The whole number at `path` in a usage report, 0 when it is missing or odd."""
    value: Any = usage
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) and value > 0 else 0
