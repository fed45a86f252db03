"""The OpenAI Chat Completions wire, spoken by nearly every provider.

Source: https://platform.openai.com/docs/api-reference/chat and the providers' own pages for what
differs, which is data in `ProviderSpec` and `ModelFamily`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from nanobot.messages import ImagePart, Message, ReasoningPart, TextPart, ToolCall, ToolDefinition, ToolResult
from nanobot.providers.base import ModelRequest
from nanobot.providers.chat_answer import ChatReader
from nanobot.providers.conversation import EMPTY, dump_json, framed, result_text, shown_parts, wire_id
from nanobot.providers.registry import (
    ModelFamily,
    ProviderSpec,
    family_of,
    fixed_parameters,
    max_tokens_field,
    wire_model,
)
from nanobot.providers.schemas import plain_schema
from nanobot.providers.transport import WireProvider

WireMessage = dict[str, Any]

_IMAGES_FOLLOW = "The images of the tool results above:"
# Google's documented value for tool calls that carry no signature of their own.
_NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}
_CACHE_MARK = {"type": "ephemeral"}


class ChatCompletionsProvider(WireProvider):
    """Any endpoint that serves `POST {apiBase}/chat/completions`."""

    def url(self) -> str:
        base, question, query = self.api_base.partition("?")
        base = base.rstrip("/").removesuffix("/chat/completions")
        return f"{base}/chat/completions{question}{query}"

    def auth_headers(self, api_key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def reader(self, request: ModelRequest) -> ChatReader:
        return ChatReader(self.failures, request, self.spec.name)

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """What changes least comes first, so that consecutive requests share a long prefix."""
        spec, model = self.spec, request.model
        body: dict[str, Any] = {"model": wire_model(spec, model), "stream": True}
        if spec.stream_usage:
            body["stream_options"] = {"include_usage": True}
        body[max_tokens_field(spec, model)] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        for name, value in fixed_parameters(spec, model).items():
            body.pop(name, None)
            if value is not None:
                body[name] = value
        if request.tools:
            body["tools"] = [_wire_tool(tool, spec.plain_schema) for tool in request.tools]
        body["messages"] = self._messages(request)
        return body

    def _messages(self, request: ModelRequest) -> list[WireMessage]:
        writer = ConversationWriter(
            self.spec, family_of(request.model), self.traits(request.model).supports_images
        )
        messages = writer.write(request.system, framed(request.messages))
        if writer.as_parts:
            _mark_cache(messages)
        return messages


class ConversationWriter:
    """Writes messages for one provider and model. A message is written the same whatever follows it."""

    def __init__(self, spec: ProviderSpec, family: ModelFamily, sees: bool) -> None:
        self._spec = spec
        self._family = family
        self._sees = sees
        self.as_parts = spec.cache_control and family.start.startswith("claude")
        """Content is a list of parts throughout, since only parts can carry cache marks."""

    def write(self, system: str, messages: Sequence[Message]) -> list[WireMessage]:
        written: list[WireMessage] = []
        if system:
            written.append({"role": "system", "content": self._content([TextPart(system)])})
        for is_tool, run in groupby(messages, key=lambda message: message.role == "tool"):
            if is_tool:
                written += self._tool_messages([result for message in run for result in message.tool_results])
            else:
                written += [self._user_or_assistant(message) for message in run]
        return _merged(written) if self._spec.merge_roles else written

    def _user_or_assistant(self, message: Message) -> WireMessage:
        if message.role == "assistant":
            return self._assistant(message)
        return {"role": "user", "content": self._content(list(shown_parts(message, self._sees)))}

    def _content(self, parts: Sequence[TextPart | ImagePart]) -> str | list[dict[str, Any]]:
        if not parts:
            parts = [TextPart(EMPTY)]
        if self.as_parts or any(isinstance(part, ImagePart) for part in parts):
            return [_wire_part(part) for part in parts]
        return "\n\n".join(part.text for part in parts if isinstance(part, TextPart))

    def _assistant(self, message: Message) -> WireMessage:
        text, calls = message.text, message.tool_calls
        written: WireMessage = {"role": "assistant", "content": text if text.strip() else EMPTY}
        if calls and (not text.strip() or self._spec.null_text_with_tool_calls):
            written["content"] = None
        written |= self._reasoning(message)
        if calls:
            written["tool_calls"] = self._tool_calls(calls)
        return written

    def _reasoning(self, message: Message) -> WireMessage:
        own = [
            part
            for part in message.parts
            if isinstance(part, ReasoningPart) and part.provider == self._spec.name
        ]
        if self._spec.reasoning_details:
            details = [item for part in own if part.signature for item in json.loads(part.signature)]
            return {"reasoning_details": details} if details else {}
        if self._family.replay_reasoning:
            return {"reasoning_content": "".join(part.text for part in own)}
        return {}

    def _tool_calls(self, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        for call in calls:
            function = {"name": call.name, "arguments": dump_json(dict(call.arguments))}
            written.append({"id": self._id(call.id), "type": "function", "function": function})
            if self._spec.thought_signatures and "extra_content" in call.extra:
                written[-1]["extra_content"] = call.extra["extra_content"]
        if self._family.demands_signatures and not any("extra_content" in call for call in written):
            written[0]["extra_content"] = _NO_SIGNATURE
        return written

    def _tool_messages(self, results: Sequence[ToolResult]) -> list[WireMessage]:
        """The results, then their images in a user message: tool messages can only hold text."""
        written: list[WireMessage] = []
        images: list[TextPart | ImagePart] = []
        for result in results:
            content = self._content([TextPart(result_text(result, self._sees))])
            written.append({"role": "tool", "tool_call_id": self._id(result.call_id), "content": content})
            images += result.images
        if images and self._sees:
            written.append({"role": "user", "content": self._content([TextPart(_IMAGES_FOLLOW), *images])})
        return written

    def _id(self, call_id: str) -> str:
        return wire_id(call_id, self._spec.tool_id_pattern)


def _wire_part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}


def _wire_tool(tool: ToolDefinition, plain: bool) -> dict[str, Any]:
    parameters: Mapping[str, Any] = plain_schema(tool.parameters) if plain else tool.parameters
    function = {"name": tool.name, "description": tool.description, "parameters": dict(parameters)}
    return {"type": "function", "function": function}


def _merged(messages: Sequence[WireMessage]) -> list[WireMessage]:
    """Consecutive user messages, and assistant ones without tool calls, as one."""
    merged: list[WireMessage] = []
    for message in messages:
        last = merged[-1] if merged else {}
        joinable = message["role"] in ("user", "assistant") and "tool_calls" not in last
        if not joinable or last.get("role") != message["role"]:
            merged.append(message)
            continue
        contents = [content for content in (last["content"], message["content"]) if content is not None]
        merged[-1] = {**last, **message, "content": _joined(contents)}
    return merged


def _joined(contents: Sequence[str | list[dict[str, Any]]]) -> str | list[dict[str, Any]]:
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(content for content in contents if isinstance(content, str))
    return [
        part
        for content in contents
        for part in (content if isinstance(content, list) else [_wire_part(TextPart(content))])
    ]


def _mark_cache(messages: Sequence[WireMessage]) -> None:
    """Anthropic cache marks: on the system prompt (it covers the tools) and the two newest inputs.

    Of those two, the older is what the previous request has written to the cache.
    """
    inputs = [message for message in messages if message["role"] in ("user", "tool")][-2:]
    system = [message for message in messages[:1] if message["role"] == "system"]
    for message in system + inputs:
        for part in [part for part in message["content"] if part["type"] == "text"][-1:]:
            part["cache_control"] = _CACHE_MARK
