"""The OpenAI Chat Completions wire, spoken by nearly every provider.

https://platform.openai.com/docs/api-reference/chat; what differs is data in `ProviderSpec` and `ModelFamily`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nanobot.messages import ImagePart, Message, ReasoningPart, TextPart, ToolCall, Usage
from nanobot.providers.answer import AnswerReader, Block, cost_of, token_count
from nanobot.providers.base import Completion, ModelEvent, ModelRequest
from nanobot.providers.conversation import (
    EMPTY,
    clean_text,
    dump_json,
    framed,
    result_text,
    shown_parts,
    wire_id,
)
from nanobot.providers.registry import ModelFamily, ProviderSpec, family_of, request_parameters
from nanobot.providers.schemas import plain_schema
from nanobot.providers.transport import WireProvider

WireMessage = dict[str, Any]

_IMAGES_FOLLOW = "The images of the tool results above:"
# Google's documented value for tool calls that carry no signature of their own.
_NO_SIGNATURE = {"google": {"thought_signature": "skip_thought_signature_validator"}}
_CACHE_MARK = {"type": "ephemeral"}
_DETAIL_WORDS = {"reasoning.text": "text", "reasoning.summary": "summary"}  # what arrives in pieces


class ChatReader(AnswerReader):
    """Maps the chunks of one answer. Only the first choice is read."""

    def read(self, event: Mapping[str, Any]) -> Iterator[ModelEvent]:
        choices = [choice for choice in event.get("choices") or () if not choice.get("index")]
        # Groq, Moonshot and the rest report usage in different places, some of them with every chunk.
        for place in (event.get("x_groq"), event, *choices):
            if isinstance(place, Mapping) and isinstance(place.get("usage"), Mapping):
                self.usage_report = dict(place["usage"])
        for choice in choices:
            yield from self._take_delta(choice.get("delta") or choice.get("message") or {})
        for place in choices or [event]:
            if finish := place.get("finish_reason"):
                self.finish, self.complete = str(finish).lower(), True

    def completion(self) -> Completion:
        kinds = {block.kind for block in self.blocks.values()}
        if self.done and not self.finish and kinds and "call" not in kinds:
            self.finish, self.complete = "stop", True  # `[DONE]` ends words; calls may still lack a part
        thought = self.blocks.get("thought")
        if thought and thought.extra:
            details = [
                {
                    key: "".join(value) if key == _DETAIL_WORDS.get(str(detail.get("type"))) else value
                    for key, value in detail.items()
                }
                for detail in thought.extra["details"]
            ]
            thought.signature = clean_text(dump_json(details))
        return super().completion()

    def usage(self) -> Usage:
        """Token counts, under the names of OpenAI, DeepSeek (`prompt_cache_hit_tokens`) or Moonshot."""
        report = self.usage_report
        return Usage(
            input_tokens=token_count(report, "prompt_tokens"),
            output_tokens=token_count(report, "completion_tokens"),
            cached_tokens=token_count(report, "prompt_tokens_details", "cached_tokens")
            or token_count(report, "prompt_cache_hit_tokens")
            or token_count(report, "cached_tokens"),
            cache_write_tokens=token_count(report, "prompt_tokens_details", "cache_write_tokens"),
            reasoning_tokens=token_count(report, "completion_tokens_details", "reasoning_tokens"),
            cost=cost_of(report),
        )

    def _take_delta(self, delta: Mapping[str, Any]) -> Iterator[ModelEvent]:
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            yield from self.add(self.blocks.setdefault("thought", Block("reasoning")), thought)
        for detail in delta.get("reasoning_details") or ():
            self._take_detail(detail)
        content = delta.get("content")
        if isinstance(content, list):
            content = "".join(part.get("text") or "" for part in content if part.get("type") == "text")
        for text in filter(None, (content, delta.get("refusal"))):
            yield from self.add(self.blocks.setdefault("text", Block("text")), text)
        old = [{"index": 0, "function": delta["function_call"]}] if delta.get("function_call") else ()
        for piece in delta.get("tool_calls") or old:
            self._take_call_piece(piece)

    def _take_detail(self, detail: Mapping[str, Any]) -> None:
        """Keep OpenRouter's reasoning details as they came, joining the pieces of one block."""
        details = self.blocks.setdefault("thought", Block("reasoning")).extra.setdefault("details", [])
        last = details[-1] if details else {}
        same = all(detail.get(key) == last.get(key) for key in ("type", "index"))
        word = _DETAIL_WORDS.get(str(detail.get("type")))
        if not last or not same or not word:
            details.append(last := {})
        for key, value in detail.items():
            if key == word:  # in a list until the end, since there may be very many
                last.setdefault(key, []).append("" + (value or ""))
            elif value is not None or key not in last:
                last[key] = value

    def _take_call_piece(self, piece: Mapping[str, Any]) -> None:
        function = piece.get("function") or {}
        name, call_id = str(function.get("name") or ""), str(piece.get("id") or "")
        given = function.get("arguments") or ""
        arguments = given if isinstance(given, str) else dump_json(given)
        call = self._call_for(piece.get("index"), call_id, name, arguments)
        call.id = call.id or call_id
        if name != call.name:
            call.name += name
        call.pieces.append(arguments)
        if isinstance(piece.get("extra_content"), Mapping):
            call.extra["extra_content"] = piece["extra_content"]

    def _call_for(self, index: Any, call_id: str, name: str, arguments: str) -> Block:
        """The call a piece belongs to. Some servers leave the index out or give every call the same."""
        calls = [(key[0], block) for key, block in self.blocks.items() if isinstance(key, tuple)]
        same = [block for key, block in calls if index is None or key == index]
        last = same[-1] if same else Block("call")
        another_id = call_id and last.id and call_id != last.id
        # Gemini gives every call the index 0, often without an id, and each in one piece.
        is_whole = index is None or "".join(last.pieces[:1]).strip().endswith("}")
        begins = arguments.strip()[:1] in ("", "{") and not (call_id and call_id == last.id)
        if not same or (name and (another_id or (is_whole and begins))):
            last = self.blocks[index, len(self.blocks)] = Block("call")
        return last


class ChatCompletionsProvider(WireProvider):
    """Any endpoint that serves `POST {apiBase}/chat/completions`."""

    path = "/chat/completions"
    reader_type = ChatReader

    async def credentials(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def body(self, request: ModelRequest) -> dict[str, Any]:
        """What changes least comes first, so that consecutive requests share a long prefix."""
        body = request_parameters(self.spec, request) | {"stream_options": {"include_usage": True}}
        if request.tools:
            shape = plain_schema if self.spec.plain_schema else dict
            functions = [
                {"name": tool.name, "description": tool.description, "parameters": shape(tool.parameters)}
                for tool in request.tools
            ]
            body["tools"] = [{"type": "function", "function": function} for function in functions]
        marks = self.spec.cache_control and "claude" in request.model.lower()
        sees = self.traits(request.model).supports_images
        writer = _Writer(self.spec, family_of(request.model), sees, marks)
        body["messages"] = writer.write(request.system, request.messages)
        if marks:
            _mark_cache(body["messages"])
        return body


@dataclass(frozen=True)
class _Writer:
    """Writes messages for one provider and model. A message is written the same whatever follows it."""

    spec: ProviderSpec
    family: ModelFamily
    sees: bool
    as_parts: bool  # content is a list of parts throughout, since only parts can carry cache marks

    def write(self, system: str, messages: Sequence[Message]) -> list[WireMessage]:
        written: list[WireMessage] = []
        if system.strip():
            written.append({"role": "system", "content": self._content([TextPart(system)])})
        for message in framed(list(_images_apart(messages)) if self.sees else messages):
            if message.role == "user":
                content = self._content(list(shown_parts(message, self.sees)))
                written.append({"role": "user", "content": content})
            elif message.role == "assistant":
                written.append(self._assistant(message))
            for result in message.tool_results if message.role == "tool" else ():
                content = self._content([TextPart(result_text(result, self.sees))])
                call_id = wire_id(result.call_id, self.spec.tool_id_pattern)
                written.append({"role": "tool", "tool_call_id": call_id, "content": content})
        return written

    def _content(self, parts: Sequence[TextPart | ImagePart]) -> str | list[dict[str, Any]]:
        parts = parts or [TextPart(EMPTY)]
        if self.as_parts or any(isinstance(part, ImagePart) for part in parts):
            return [_wire_part(part) for part in parts]
        return "\n\n".join(part.text for part in parts if isinstance(part, TextPart))

    def _assistant(self, message: Message) -> WireMessage:
        text = "\n\n".join(part.text for part in message.parts if isinstance(part, TextPart) and part.text)
        calls = self._tool_calls(message.tool_calls)
        content = text if text.strip() else None if calls else EMPTY
        written: WireMessage = {"role": "assistant", "content": content, **self._reasoning(message)}
        return {**written, "tool_calls": calls} if calls else written

    def _reasoning(self, message: Message) -> WireMessage:
        thoughts = [part for part in message.parts if isinstance(part, ReasoningPart)]
        own = [part for part in thoughts if part.provider == self.spec.name]
        details = [item for part in own if part.signature for item in json.loads(part.signature)]
        if self.spec.reasoning_details:
            return {"reasoning_details": details} if details else {}
        thought = "".join(part.text for part in own)
        return {"reasoning_content": thought} if self.family.replay_reasoning else {}

    def _tool_calls(self, calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
        written: list[dict[str, Any]] = []
        for call in calls:
            function = {"name": call.name, "arguments": dump_json(dict(call.arguments))}
            call_id = wire_id(call.id, self.spec.tool_id_pattern)
            written.append({"id": call_id, "type": "function", "function": function})
            if self.spec.thought_signatures and "extra_content" in call.extra:
                written[-1]["extra_content"] = call.extra["extra_content"]
        signed = any("extra_content" in call for call in written)
        if written and self.family.demands_signatures and not signed:
            written[0]["extra_content"] = _NO_SIGNATURE
        return written


def _images_apart(messages: Sequence[Message]) -> Iterator[Message]:
    """Tool messages hold text only: the images of each run of them follow in a user message."""
    for is_tool, group in groupby(messages, key=lambda message: message.role == "tool"):
        run = list(group)
        yield from run
        images = [image for message in run for result in message.tool_results for image in result.images]
        if is_tool and images:
            yield Message.user(_IMAGES_FOLLOW, *images)


def _wire_part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}


def _mark_cache(messages: Sequence[WireMessage]) -> None:
    """On the system prompt (it covers the tools), the newest input and what was it the last time."""
    inputs = [message for message in messages if message["role"] in ("user", "tool")][-2:]
    for message in [message for message in messages[:1] if message["role"] == "system"] + inputs:
        for part in [part for part in message["content"] if part["type"] == "text"][-1:]:
            part["cache_control"] = _CACHE_MARK
