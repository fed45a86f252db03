"""The reading side of a wire protocol: stream events in, chunks and a completion out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nanobot.messages import Message, Part, ReasoningPart, TextPart, ToolCall, Usage
from nanobot.providers import base
from nanobot.providers.base import Completion, ModelEvent, ModelRequest, ReasoningChunk, TextChunk
from nanobot.providers.conversation import clean_text
from nanobot.providers.failures import Failures, error_in
from nanobot.providers.thinking import ThinkingSplitter
from nanobot.providers.written_calls import CallHolder, parse_arguments, read_calls

_FINISH: dict[str, base.FinishReason] = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "pause_turn", "eos"), "stop"),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "tool_calls"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "model_context_window_exceeded"), "length"),
    **dict.fromkeys(("refusal", "content_filter", "safety", "sensitive", "recitation"), "refusal"),
    **dict.fromkeys(("prohibited_content", "blocklist", "spii", "content_filtered"), "refusal"),
}
# OpenRouter, Zhipu, DeepSeek, vLLM and Gemini end a stream so when the model or its host failed.
_FAILED = {"error", "network_error", "insufficient_system_resource", "abort", "malformed_function_call"}
_NOT_CALLED = (
    "{model} wrote a tool call as text, which was not run. Let its server read tool calls (llama.cpp: "
    "--jinja, vLLM: --enable-auto-tool-choice); if it does, this model cannot call tools: use another one."
)


@dataclass
class Block:
    """A part of an answer while its pieces arrive. Blocks of kind `other` are not kept."""

    kind: Literal["text", "reasoning", "call", "other"]
    id: str = ""
    name: str = ""
    signature: str = ""
    redacted: str = ""
    pieces: list[str] = field(default_factory=list, init=False)
    thoughts: list[str] = field(default_factory=list, init=False)  # what a text says in `<think>`
    splitter: ThinkingSplitter | None = field(default=None, init=False)
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
        self.expects_thinking = False  # the prompt is known to open a `<think>` of the model
        self.prompt_opens_thinking = False  # at the end: it did
        self._holder = CallHolder()
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
        yield from self.take(event)

    def take(self, event: Any) -> Iterator[ModelEvent]:
        """Take one event. Raises ProviderError."""
        if reported := error_in(event):
            raise self._failures.of_event(reported, self._request.model)
        try:
            yield from self.read(event)
        except (AttributeError, KeyError, TypeError) as error:  # wires do not look at every type first
            raise self._failures.broken("a part of it has an unknown shape", str(event)[:1_000]) from error

    def add(self, block: Block, piece: Any) -> Iterator[ModelEvent]:
        """Add a piece to a block and show it if it is words. Raises TypeError for what is no text."""
        if not isinstance(piece, str):
            raise TypeError("text expected")
        if block.kind == "text":
            block.splitter = block.splitter or ThinkingSplitter(expected=self.expects_thinking)
            yield from self._sort(block, block.splitter.feed(piece))
            return
        block.pieces.append(piece)
        if piece and block.kind == "reasoning":
            yield ReasoningChunk(clean_text(piece))

    def _sort(self, block: Block, chunks: Iterator[TextChunk | ReasoningChunk]) -> Iterator[ModelEvent]:
        """Keep words and thinking of a text apart, and show them; words only if they can be no tool call."""
        for chunk in chunks:
            if isinstance(chunk, ReasoningChunk):
                if chunk.was_text:
                    block.thoughts += block.pieces
                    block.pieces, self._holder = [], CallHolder()
                block.thoughts.append(chunk.text)
                yield replace(chunk, text=clean_text(chunk.text))
                continue
            block.pieces.append(chunk.text)
            if words := self._holder.feed(chunk.text) if self._request.tools else chunk.text:
                yield TextChunk(clean_text(words))

    def end(self) -> Iterator[ModelEvent]:
        """What was held back, when there is no more to read."""
        for block in self.blocks.values():
            if block.splitter:
                yield from self._sort(block, block.splitter.feed("", final=True))
                self.prompt_opens_thinking |= block.splitter.was_opened_by_prompt
        if self._request.tools and (left := self._written_calls()[1][self._holder.shown :]):
            self._holder.shown += len(left)
            yield TextChunk(left)

    def _written_calls(self) -> tuple[list[ToolCall], str, bool]:
        """The calls that the text turns out to be, and more (see read_calls)."""
        kinds = {block.kind for block in self.blocks.values()}
        text = "".join(
            piece for block in self.blocks.values() if block.kind == "text" for piece in block.pieces
        )
        if not self._request.tools or "call" in kinds or _FINISH.get(self.finish) in ("length", "refusal"):
            return [], clean_text(text), False
        return read_calls(clean_text(text), self._request.tools)

    @abstractmethod
    def usage(self) -> Usage:
        """The tokens counted in `usage_report`."""

    def completion(self) -> Completion:
        """The finished answer; no tool calls if it was cut or filtered. Raises BrokenStreamError."""
        list(self.end())
        if not self.complete or not self.finish:
            raise self._failures.broken("it ended before the model had finished")
        if self.finish in _FAILED:
            raise self._failures.of_event(f"finish reason {self.finish}", self._request.model)
        reason = self._reason({block.kind for block in self.blocks.values()})
        blocks = [block for block in self.blocks.values() if block.kind != "call" or reason == "tool_calls"]
        parts = [part for block in blocks for part in self._finished(block)]
        written, words, is_tried = self._written_calls()
        if written:
            parts = [part for part in parts if not isinstance(part, TextPart)]
            parts += [TextPart(words), *written] if words else written
            reason = "tool_calls"
        note = _NOT_CALLED.format(model=self._request.model) if is_tried and not written else ""
        return Completion(Message("assistant", tuple(parts)), self.usage(), reason, note)

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
        if block.kind == "text":
            thought = clean_text("".join(block.thoughts))
            thoughts = [ReasoningPart(thought, provider=self._provider)] if thought.strip() else []
            return [*thoughts, *([TextPart(text)] if text else [])]
        if block.kind == "reasoning":
            return [ReasoningPart(text, block.signature, block.redacted, self._provider)]
        if block.kind != "call":
            return []
        if not block.name:
            raise self._failures.broken("a tool call has no name")
        arguments, malformed = parse_arguments(text)
        return [ToolCall(clean_text(block.id), clean_text(block.name), arguments, malformed, block.extra)]


def token_count(usage: Mapping[str, Any], *path: str) -> int:
    """The whole number at `path` in a usage report, 0 when it is missing or odd."""
    value: Any = usage
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) and value > 0 else 0


def cost_of(usage: Mapping[str, Any]) -> float:
    """US dollars, where the report says them: https://openrouter.ai/docs/use-cases/usage-accounting."""
    cost = usage.get("cost")
    return cost if isinstance(cost, float) and 0 < cost < 1e9 else 0.0
