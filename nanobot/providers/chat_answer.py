"""Reading a Chat Completions answer: https://platform.openai.com/docs/api-reference/chat-streaming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nanobot.messages import Message, ReasoningPart, TextPart, ToolCall, Usage
from nanobot.providers.answer import AnswerReader
from nanobot.providers.base import (
    Completion,
    FinishReason,
    ModelEvent,
    ModelRequest,
    ReasoningChunk,
    TextChunk,
)
from nanobot.providers.conversation import CallIds, clean_text, dump_json, finished_call, token_count
from nanobot.providers.failures import Complaint, Failures

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "refusal",
    "refusal": "refusal",
    "safety": "refusal",
    "sensitive": "refusal",
}
# OpenRouter, Zhipu, DeepSeek and vLLM end a stream so when the model or its host failed.
_FAILED = {"error", "network_error", "insufficient_system_resource", "abort"}


@dataclass
class _CallDraft:
    """A tool call while its pieces arrive."""

    index: int | None
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


class ChatReader(AnswerReader):
    """Gathers the chunks of one answer. Only the first choice is read."""

    def __init__(self, failures: Failures, request: ModelRequest, provider: str) -> None:
        super().__init__(failures, request)
        self._provider = provider
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._calls: list[_CallDraft] = []
        self._finish = ""
        self._usage = Usage()

    def feed(self, event: Mapping[str, Any]) -> Iterator[ModelEvent]:
        groq = event.get("x_groq")
        self._take_usage(groq.get("usage") if isinstance(groq, Mapping) else None)
        self._take_usage(event.get("usage"))
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, Mapping) or choice.get("index", 0) != 0:
                continue
            self._take_usage(choice.get("usage"))
            delta = choice.get("delta") or choice.get("message")
            if isinstance(delta, Mapping):
                yield from self._take_delta(delta)
            if choice.get("finish_reason"):
                self._finish = str(choice["finish_reason"]).lower()
                self.settled = True

    def feed_whole(self, body: Mapping[str, Any]) -> Iterator[ModelEvent]:
        if not isinstance(body.get("choices"), list):
            raise self.failures.broken("it is no completion", dump_json(body))
        yield from self.feed(body)

    def completion(self) -> Completion:
        if not self._finish:
            raise self.failures.broken("it ended without a finish reason")
        if self._finish in _FAILED:
            raise self.failures.of_event(Complaint(f"finish reason {self._finish}"), self.request.model)
        text = clean_text("".join(self._text))
        reason = self._reason(text)
        parts: list[ReasoningPart | TextPart | ToolCall] = []
        if self._reasoning or self._details:
            details = clean_text(dump_json(self._details)) if self._details else ""
            thought = clean_text("".join(self._reasoning))
            parts.append(ReasoningPart(thought, signature=details, provider=self._provider))
        if text:
            parts.append(TextPart(text))
        if reason == "tool_calls":
            parts += self._finished_calls()
        return Completion(Message("assistant", tuple(parts)), self._usage, reason)

    def _reason(self, text: str) -> FinishReason:
        """The finish reason. Tool calls count only if the model finished them and nothing was filtered."""
        reason = _FINISH.get(self._finish)
        if reason in ("length", "refusal"):
            return reason
        if reason is None and self._calls:
            raise self.failures.broken(f"tool calls came with the finish reason {self._finish!r}")
        if reason == "tool_calls" and not self._calls and not text:
            raise self.failures.broken("it announced tool calls and brought none")
        return "tool_calls" if self._calls else "stop"

    def _finished_calls(self) -> list[ToolCall]:
        if any(not call.name for call in self._calls):
            raise self.failures.broken("a tool call has no name")
        ids = CallIds(self.request.messages)
        return [
            finished_call(ids, call.id, call.name, "".join(call.arguments), call.extra)
            for call in self._calls
        ]

    def _take_delta(self, delta: Mapping[str, Any]) -> Iterator[ModelEvent]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if thought and isinstance(thought, str):
            self._reasoning.append(thought)
            yield ReasoningChunk(clean_text(thought))
        for detail in delta.get("reasoning_details") or ():
            self._take_detail(detail)
        for text in (_text_of(delta.get("content")), _text_of(delta.get("refusal"))):
            if text:
                self._text.append(text)
                yield TextChunk(clean_text(text))
        for piece in delta.get("tool_calls") or ():
            self._take_call_piece(piece)

    def _take_detail(self, detail: Mapping[str, Any]) -> None:
        """Keep OpenRouter's reasoning details, joining the pieces of one block."""
        last = self._details[-1] if self._details else {}
        same = all(detail.get(key) == last.get(key) for key in ("type", "index"))
        if not last or not same or detail.get("type") not in ("reasoning.text", "reasoning.summary"):
            self._details.append(dict(detail))
            return
        for key, value in detail.items():
            if key in ("text", "summary"):
                last[key] = (last.get(key) or "") + (value or "")
            elif value is not None:
                last[key] = value

    def _take_call_piece(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        name, call_id = str(function.get("name") or ""), str(piece.get("id") or "")
        call = self._call_for(piece.get("index"), call_id, name)
        call.id = call.id or call_id
        if name != call.name:
            call.name += name
        arguments = function.get("arguments")
        if arguments:
            call.arguments.append(arguments if isinstance(arguments, str) else dump_json(arguments))
        if isinstance(piece.get("extra_content"), Mapping):
            call.extra["extra_content"] = piece["extra_content"]

    def _call_for(self, index: Any, call_id: str, name: str) -> _CallDraft:
        """The call a piece belongs to. Some servers leave the index out or give every call the same."""
        same = [call for call in self._calls if index is None or call.index == index]
        last = same[-1] if same else None
        another_id = bool(last and call_id and last.id and call_id != last.id)
        unindexed_start = index is None and name and not (last and call_id and call_id == last.id)
        if last is None or (name and another_id) or unindexed_start:
            last = _CallDraft(index if isinstance(index, int) else None)
            self._calls.append(last)
        return last

    def _take_usage(self, report: Any) -> None:
        """The latest report counts: some servers send running totals with every chunk."""
        if isinstance(report, Mapping):
            self._usage = read_usage(report)


def read_usage(report: Mapping[str, Any]) -> Usage:
    """Token counts, under the names of OpenAI, DeepSeek (`prompt_cache_hit_tokens`) or Moonshot."""
    cached = (
        token_count(report, "prompt_tokens_details", "cached_tokens")
        or token_count(report, "prompt_cache_hit_tokens")
        or token_count(report, "cached_tokens")
    )
    return Usage(
        input_tokens=token_count(report, "prompt_tokens"),
        output_tokens=token_count(report, "completion_tokens"),
        cached_tokens=cached,
        cache_write_tokens=token_count(report, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=token_count(report, "completion_tokens_details", "reasoning_tokens"),
    )


def _text_of(content: Any) -> str:
    """The words of a delta: a string, or a list of text parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(
        str(part.get("text") or "")
        for part in content
        if isinstance(part, Mapping) and part.get("type") == "text"
    )
