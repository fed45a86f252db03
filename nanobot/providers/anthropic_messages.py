"""The Anthropic Messages wire: https://docs.anthropic.com/en/api/messages and messages-streaming."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from nanobot.messages import ImagePart, Message, Part, ReasoningPart, TextPart, ToolCall, ToolResult, Usage
from nanobot.providers.answer import AnswerReader, Block, token_count
from nanobot.providers.base import ModelEvent, ModelRequest
from nanobot.providers.conversation import EMPTY, dump_json, framed, result_text, shown_parts, wire_id
from nanobot.providers.registry import request_parameters
from nanobot.providers.transport import WireProvider

WireBlock = dict[str, Any]

_CACHE_MARK = {"type": "ephemeral"}
_KINDS: dict[Any, Literal["text", "reasoning", "call"]]
_KINDS = {"text": "text", "thinking": "reasoning", "redacted_thinking": "reasoning", "tool_use": "call"}
_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_ID_PATTERN = r"[a-zA-Z0-9_-]{1,64}"


class AnthropicReader(AnswerReader):
    """Maps the events of one answer. Unknown events and blocks are ignored, as the API asks."""

    def read(self, event: Mapping[str, Any]) -> Iterator[ModelEvent]:
        match event.get("type"):
            case "message_start":
                self._take_usage(event["message"].get("usage"))
            case "content_block_start":
                start = event["content_block"]
                known = [str(start.get(name) or "") for name in ("id", "name", "signature", "data")]
                block = self.blocks[event["index"]] = Block(_KINDS.get(start.get("type"), "other"), *known)
                given = dump_json(start["input"]) if start.get("input") else ""
                yield from self.add(block, start.get("text") or start.get("thinking") or given)
            case "content_block_delta":
                block, delta = self.blocks[event["index"]], event["delta"]
                if delta.get("type") == "signature_delta":
                    block.signature += delta["signature"]
                elif name := _PIECES.get(delta.get("type")):
                    yield from self.add(block, delta[name])
            case "message_delta":
                self.finish = str(event["delta"].get("stop_reason") or self.finish)
                self._take_usage(event.get("usage"))
            case "message_stop":
                self.complete = self.done = True
            case "message":  # whole, from a server that does not stream
                yield from self.read({"type": "message_start", "message": event})
                for index, block in enumerate(event["content"]):
                    yield from self.read(
                        {"type": "content_block_start", "index": index, "content_block": block}
                    )
                yield from self.read({"type": "message_delta", "delta": event})
                self.complete = True

    def _take_usage(self, report: Any) -> None:
        """Later figures replace earlier ones: they are running totals."""
        if isinstance(report, Mapping):
            self.usage_report.update({key: value for key, value in report.items() if value is not None})

    def usage(self) -> Usage:
        """Anthropic counts cached tokens apart; our input includes them."""
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        new, output, read, written = (token_count(self.usage_report, name) for name in names)
        return Usage(new + read + written, output, cached_tokens=read, cache_write_tokens=written)


class AnthropicMessagesProvider(WireProvider):
    """Any endpoint that serves `POST {apiBase}/v1/messages`; an apiBase may end in /v1 or not."""

    path = "/v1/messages"
    models_path = "/v1/models"
    reader_type = AnthropicReader

    async def credentials(self) -> dict[str, str]:
        key = {"x-api-key": self.api_key} if self.api_key else {}
        return {"anthropic-version": "2023-06-01", **key}

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """What changes least comes first, so that consecutive requests share a long prefix."""
        body = request_parameters(self.spec, request)
        if "temperature" in body:
            body["temperature"] = min(body["temperature"], 1.0)
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
                for tool in request.tools
            ]
        if request.system.strip():
            body["system"] = [{"type": "text", "text": request.system}]
        body["messages"] = self._messages(
            framed(request.messages), self.traits(request.model).supports_images
        )
        if self.spec.cache_control:
            _mark_cache(body)
        return body

    def _messages(self, messages: Sequence[Message], sees: bool) -> list[dict[str, Any]]:
        """`messages` as alternating user and assistant ones; tool results belong to the user."""
        written: list[dict[str, Any]] = []
        for is_model, run in groupby(messages, key=lambda message: message.role == "assistant"):
            blocks = []
            for message in run:
                parts = shown_parts(message, sees) if message.role == "user" else message.parts
                blocks += [block for part in parts for block in self._blocks(part, sees)]
            content = blocks or [{"type": "text", "text": EMPTY}]
            written.append({"role": "assistant" if is_model else "user", "content": content})
        return written

    def _blocks(self, part: Part, sees: bool) -> list[WireBlock]:
        """Thinking goes back only to who signed it, byte for byte: Anthropic refuses any other."""
        match part:
            case TextPart(text) if text.strip():
                return [{"type": "text", "text": text}]
            case ImagePart():
                return [_image_block(part)]
            case ReasoningPart(provider=self.spec.name, redacted=redacted) if redacted:
                return [{"type": "redacted_thinking", "data": redacted}]
            case ReasoningPart(text, signature, provider=self.spec.name) if signature:
                return [{"type": "thinking", "thinking": text, "signature": signature}]
            case ToolCall(call_id, name, arguments):
                shown_id = wire_id(call_id, _ID_PATTERN)
                return [{"type": "tool_use", "id": shown_id, "name": name, "input": dict(arguments)}]
            case ToolResult():
                return [_result_block(part, sees)]
            case _:
                return []


def _image_block(image: ImagePart) -> WireBlock:
    source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    return {"type": "image", "source": source}


def _result_block(result: ToolResult, sees: bool) -> WireBlock:
    content: list[WireBlock] = [{"type": "text", "text": result_text(result, sees)}]
    if sees:
        content += [_image_block(image) for image in result.images]
    block = {"type": "tool_result", "tool_use_id": wire_id(result.call_id, _ID_PATTERN), "content": content}
    return block if result.outcome == "ok" else {**block, "is_error": True}


def _mark_cache(body: dict[str, Any]) -> None:
    """At most four are allowed: tools, system, the newest user message and what was it the last time."""
    inputs = [message["content"] for message in body["messages"] if message["role"] == "user"]
    for blocks in (body.get("tools"), body.get("system"), *inputs[-2:]):
        if blocks:
            blocks[-1]["cache_control"] = _CACHE_MARK
