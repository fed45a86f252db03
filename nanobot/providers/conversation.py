"""What both wires need to turn a conversation into a request."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from nanobot.messages import ContextPart, ImagePart, Message, TextPart, ToolResult

EMPTY = "(empty)"
_NO_START = "(The earlier part of the conversation is left out.)"
_NO_END = "(Go on.)"
_NO_SIGHT = "(image omitted: this model cannot see)"


def framed(messages: Sequence[Message]) -> list[Message]:
    """`messages` from a user's to one that is not the assistant's, no two of one role in a row."""
    whole: list[Message] = [] if messages and messages[0].role == "user" else [Message.user(_NO_START)]
    for message in messages:
        last = whole[-1] if whole else None
        if last and last.role == message.role != "tool" and not last.tool_calls:
            whole[-1] = last._replace(parts=last.parts + message.parts)
        else:
            whole.append(message)
    return [*whole, Message.user(_NO_END)] if whole[-1].role == "assistant" else whole


def shown_parts(message: Message, sees: bool) -> Iterator[TextPart | ImagePart]:
    """What a model gets of a user message: non-empty texts, context notes as text, images if it sees."""
    for part in message.parts:
        if isinstance(part, TextPart | ContextPart):
            if part.text.strip():
                yield part if isinstance(part, TextPart) else TextPart(part.text)
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


def clean_text(text: str) -> str:
    """`text` fit for a file or a socket: halves of surrogate pairs are joined, lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
