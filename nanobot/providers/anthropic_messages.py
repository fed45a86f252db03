"""The Anthropic Messages wire: https://docs.anthropic.com/en/api/messages and messages-streaming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nanobot.messages import (
    ImagePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
)
from nanobot.providers.answer import AnswerReader
from nanobot.providers.base import (
    Completion,
    FinishReason,
    ModelEvent,
    ModelRequest,
    ReasoningChunk,
    TextChunk,
)
from nanobot.providers.conversation import (
    EMPTY,
    CallIds,
    clean_text,
    dump_json,
    finished_call,
    framed,
    result_text,
    shown_parts,
    token_count,
    wire_id,
)
from nanobot.providers.failures import Failures
from nanobot.providers.registry import fixed_parameters, wire_model
from nanobot.providers.transport import WireProvider

Block = dict[str, Any]

_VERSION = "2023-06-01"
_CACHE_MARK = {"type": "ephemeral"}
_ID_PATTERN = r"[a-zA-Z0-9_-]{1,64}"
_STOP: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}


class AnthropicMessagesProvider(WireProvider):
    """Any endpoint that serves `POST {apiBase}/v1/messages`; an apiBase may end in /v1 or not."""

    def url(self) -> str:
        base, question, query = self.api_base.partition("?")
        base = base.rstrip("/").removesuffix("/messages").removesuffix("/v1")
        return f"{base}/v1/messages{question}{query}"

    def auth_headers(self, api_key: str) -> dict[str, str]:
        headers = {"anthropic-version": _VERSION}
        return {**headers, "x-api-key": api_key} if api_key else headers

    def reader(self, request: ModelRequest) -> AnthropicReader:
        return AnthropicReader(self.failures, request, self.spec.name)

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """What changes least comes first, so that consecutive requests share a long prefix."""
        body: dict[str, Any] = {
            "model": wire_model(self.spec, request.model),
            "stream": True,
            "max_tokens": request.max_tokens,
        }
        if request.temperature is not None:
            body["temperature"] = min(request.temperature, 1.0)
        for name, value in fixed_parameters(self.spec, request.model).items():
            body.pop(name, None)
            if value is not None:
                body[name] = value
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
                for tool in request.tools
            ]
        if request.system.strip():
            body["system"] = [{"type": "text", "text": request.system}]
        sees = self.traits(request.model).supports_images
        body["messages"] = write_messages(framed(request.messages), sees, self.spec.name)
        if self.spec.cache_control:
            _mark_cache(body)
        return body


def write_messages(messages: Sequence[Message], sees: bool, provider: str) -> list[dict[str, Any]]:
    """`messages` as alternating user and assistant ones; tool results belong to the user.

    `sees` says whether the model takes images. Thinking is sent back to `provider` only if it is its own.
    """
    written: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [block for part in _shown(message, sees) for block in _blocks(part, sees, provider)]
        if written and written[-1]["role"] == role:
            written[-1]["content"] += blocks
        else:
            written.append({"role": role, "content": blocks})
    for message_blocks in written:
        if not message_blocks["content"]:
            message_blocks["content"] = [{"type": "text", "text": EMPTY}]
    return written


def _shown(message: Message, sees: bool) -> Iterator[Part]:
    return iter(message.parts) if message.role != "user" else shown_parts(message, sees)


def _blocks(part: Part, sees: bool, provider: str) -> list[Block]:
    match part:
        case TextPart(text):
            return [{"type": "text", "text": text}] if text.strip() else []
        case ImagePart():
            return [_image_block(part)]
        case ReasoningPart() if part.provider == provider:
            return _thinking_blocks(part)
        case ToolCall():
            call_id = wire_id(part.id, _ID_PATTERN)
            return [{"type": "tool_use", "id": call_id, "name": part.name, "input": dict(part.arguments)}]
        case ToolResult():
            return [_result_block(part, sees)]
        case _:
            return []


def _image_block(image: ImagePart) -> Block:
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": image.media_type, "data": image.data},
    }


def _thinking_blocks(part: ReasoningPart) -> list[Block]:
    """Signed and redacted thinking, byte for byte. Anthropic refuses thinking without a signature."""
    if part.redacted:
        return [{"type": "redacted_thinking", "data": part.redacted}]
    if part.signature:
        return [{"type": "thinking", "thinking": part.text, "signature": part.signature}]
    return []


def _result_block(result: ToolResult, sees: bool) -> Block:
    content: list[Block] = [{"type": "text", "text": result_text(result, sees)}]
    if sees:
        content += [_image_block(image) for image in result.images]
    block = {"type": "tool_result", "tool_use_id": wire_id(result.call_id, _ID_PATTERN), "content": content}
    return block if result.outcome == "ok" else {**block, "is_error": True}


def _mark_cache(body: dict[str, Any]) -> None:
    """Cache marks (at most four are allowed): tools, system, and the two newest user messages.

    Of those two, the older is what the previous request has written to the cache.
    """
    inputs = [message["content"] for message in body["messages"] if message["role"] == "user"]
    for blocks in (body.get("tools"), body.get("system"), *inputs[-2:]):
        if blocks:
            blocks[-1]["cache_control"] = _CACHE_MARK


@dataclass
class _BlockDraft:
    """A content block while its deltas arrive."""

    start: Mapping[str, Any]
    text: list[str] = field(default_factory=list)
    signature: str = ""

    def add(self, piece: Any) -> str:
        """Keep a piece of text and return it as it can be shown. Raises TypeError for anything else."""
        if not isinstance(piece, str):
            raise TypeError("text expected")
        self.text.append(piece)
        return clean_text(piece)


class AnthropicReader(AnswerReader):
    """Gathers the events of one answer. Unknown events and blocks are ignored, as the API asks."""

    def __init__(self, failures: Failures, request: ModelRequest, provider: str) -> None:
        super().__init__(failures, request)
        self._provider = provider
        self._blocks: dict[int, _BlockDraft] = {}
        self._stop = ""
        self._usage: dict[str, Any] = {}

    def feed(self, event: Mapping[str, Any]) -> Iterator[ModelEvent]:
        match event.get("type"):
            case "message_start":
                self._take_usage(event["message"].get("usage"))
            case "content_block_start":
                yield from self._start_block(event["index"], event["content_block"])
            case "content_block_delta":
                yield from self._extend_block(self._blocks[event["index"]], event["delta"])
            case "message_delta":
                self._stop = str(event["delta"].get("stop_reason") or self._stop)
                self._take_usage(event.get("usage"))
            case "message_stop":
                self.settled = self.done = True

    def feed_whole(self, body: Mapping[str, Any]) -> Iterator[ModelEvent]:
        if body.get("type") != "message" or not isinstance(body.get("content"), list):
            raise self.failures.broken("it is no message", dump_json(body))
        for index, block in enumerate(body["content"]):
            yield from self._start_block(index, block)
        self._take_usage(body.get("usage"))
        self._stop = str(body.get("stop_reason") or "")
        self.settled = self.done = True

    def completion(self) -> Completion:
        if not self.done or not self._stop:
            raise self.failures.broken("it ended without its last event")
        has_calls = any(draft.start.get("type") == "tool_use" for draft in self._blocks.values())
        reason = _STOP.get(self._stop)
        if reason is None and has_calls:
            raise self.failures.broken(f"tool calls came with the stop reason {self._stop!r}")
        if reason not in ("length", "refusal"):
            reason = "tool_calls" if has_calls else "stop"
        ids = CallIds(self.request.messages)
        parts: list[Part] = []
        for draft in self._blocks.values():
            if reason == "tool_calls" or draft.start.get("type") != "tool_use":
                parts += self._finished(draft, ids)
        return Completion(Message("assistant", tuple(parts)), self._read_usage(), reason)

    def _start_block(self, index: int, start: Mapping[str, Any]) -> Iterator[ModelEvent]:
        self._blocks[index] = draft = _BlockDraft(start)
        if start.get("type") == "text" and start.get("text"):
            yield from self._extend_block(draft, {"type": "text_delta", "text": start["text"]})
        if start.get("type") == "thinking":
            draft.signature = str(start.get("signature") or "")
            if start.get("thinking"):
                yield from self._extend_block(
                    draft, {"type": "thinking_delta", "thinking": start["thinking"]}
                )

    def _extend_block(self, draft: _BlockDraft, delta: Mapping[str, Any]) -> Iterator[ModelEvent]:
        match delta.get("type"):
            case "text_delta":
                yield TextChunk(draft.add(delta["text"]))
            case "thinking_delta":
                yield ReasoningChunk(draft.add(delta["thinking"]))
            case "input_json_delta":
                draft.add(delta["partial_json"])
            case "signature_delta":
                draft.signature += delta["signature"]

    def _finished(self, draft: _BlockDraft, ids: CallIds) -> list[Part]:
        content = "".join(draft.text)
        start = draft.start
        match start.get("type"):
            case "text":
                return [TextPart(clean_text(content))] if content else []
            case "thinking":
                return [ReasoningPart(clean_text(content), draft.signature, provider=self._provider)]
            case "redacted_thinking":
                return [ReasoningPart("", redacted=str(start.get("data") or ""), provider=self._provider)]
            case "tool_use":
                if not start.get("name"):
                    raise self.failures.broken("a tool call has no name")
                raw = content if content.strip() else dump_json(start.get("input") or {})
                return [finished_call(ids, str(start.get("id") or ""), str(start["name"]), raw, {})]
            case _:
                return []

    def _take_usage(self, report: Any) -> None:
        """Later figures replace earlier ones: they are running totals."""
        if isinstance(report, Mapping):
            self._usage.update({key: value for key, value in report.items() if value is not None})

    def _read_usage(self) -> Usage:
        """Anthropic counts cached tokens apart; our input includes them."""
        read = token_count(self._usage, "cache_read_input_tokens")
        written = token_count(self._usage, "cache_creation_input_tokens")
        return Usage(
            input_tokens=token_count(self._usage, "input_tokens") + read + written,
            output_tokens=token_count(self._usage, "output_tokens"),
            cached_tokens=read,
            cache_write_tokens=written,
        )
