"""What both wires need to turn a conversation into a request, and an answer into a message."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nanobot.messages import ContextPart, ImagePart, Message, TextPart, ToolCall, ToolResult

EMPTY = "(empty)"
_NO_START = "(The earlier part of the conversation is left out.)"
_NO_END = "(Go on.)"
_NO_SIGHT = "(image omitted: this model cannot see)"


def framed(messages: Sequence[Message]) -> list[Message]:
    """`messages` beginning with a user message and not ending with an assistant's; wires insist on both."""
    whole = list(messages)
    if not whole or whole[0].role != "user":
        whole.insert(0, Message.user(_NO_START))
    if whole[-1].role == "assistant":
        whole.append(Message.user(_NO_END))
    return whole


def shown_parts(message: Message, sees: bool) -> Iterator[TextPart | ImagePart]:
    """What a model gets of a user message: non-empty texts, context notes as text, images if it sees."""
    for part in message.parts:
        if isinstance(part, TextPart | ContextPart):
            if part.text.strip():
                yield TextPart(part.text)
        elif isinstance(part, ImagePart):
            yield part if sees else TextPart(_NO_SIGHT)


def result_text(result: ToolResult, sees: bool) -> str:
    """The text of a tool result, never empty."""
    notes = () if sees else (_NO_SIGHT,) * len(result.images)
    text = "\n".join((result.content, *notes))
    return text if text.strip() else EMPTY


def wire_id(call_id: str, pattern: str) -> str:
    """`call_id` if the wire takes it, else a short hash of it (9 hex digits fit every known rule)."""
    if re.fullmatch(pattern, call_id):
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def dump_json(value: Any) -> str:
    """Compact JSON, the same for the same value every time."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def encode_json(value: Any) -> bytes:
    """Compact JSON in UTF-8. Halves of surrogate pairs are joined, or replaced where one is missing."""
    return clean_text(dump_json(value)).encode()


def clean_text(text: str) -> str:
    """`text` as something that can be written to a file or a socket: no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def parse_arguments(raw: str) -> tuple[dict[str, Any], str]:
    """The arguments of a finished tool call and, if they are no JSON object, the raw text again."""
    if not raw.strip():
        return {}, ""
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return {}, clean_text(raw)
    if not isinstance(value, dict):
        return {}, clean_text(raw)
    # Escapes may hide halves of surrogate pairs that only show once they are decoded.
    return json.loads(clean_text(dump_json(value))), ""


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class CallIds:
    """Gives every tool call of one answer an id that its conversation has not seen yet.

    Some providers leave ids out or repeat them. The ids made here follow from the conversation, so a
    replayed answer gets the same ones.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._taken = {call.id for message in messages for call in message.tool_calls}
        self._last = messages[-1] if messages else None

    def assign(self, offered: str) -> str:
        call_id = clean_text(offered)
        if not call_id or call_id in self._taken:
            seed = f"{len(self._taken)} {self._last!r}".encode("utf-8", "surrogatepass")
            call_id = f"call_{hashlib.sha256(seed).hexdigest()[:20]}"
        self._taken.add(call_id)
        return call_id


def finished_call(ids: CallIds, offered_id: str, name: str, raw: str, extra: Mapping[str, Any]) -> ToolCall:
    """A tool call whose arguments have arrived in full."""
    arguments, malformed = parse_arguments(raw)
    return ToolCall(ids.assign(offered_id), clean_text(name), arguments, malformed, dict(extra))


def token_count(usage: Mapping[str, Any], *path: str) -> int:
    """The whole number at `path` in a usage report, 0 when it is missing or odd."""
    value: Any = usage
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) and value > 0 else 0
