"""Stored messages for people (Markdown) and for programs (JSON)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nanobot.columns import minute
from nanobot.messages import ContextPart, ImagePart, TextPart, ToolCall, ToolResult, message_to_json
from nanobot.store.records import StoredMessage

_SPEAKERS = {"user": "You", "assistant": "nanobot"}


def as_markdown(stored: StoredMessage) -> Iterator[str]:
    """The paragraphs of a message, tool calls and their results included."""
    message = stored.message
    if all(isinstance(part, ContextPart) for part in message.parts):  # how the turn ended: nobody said it
        yield from (f"_{part.text}_\n" for part in message.parts if isinstance(part, ContextPart))
        return
    if message.role != "tool":
        yield f"## {_SPEAKERS[message.role]}, {minute(stored.created_at)}\n"
    for part in message.parts:
        match part:
            case TextPart(text=text) if text.strip():
                yield f"{text.strip()}\n"
            case ToolCall(name=tool, arguments=arguments, malformed=malformed):
                yield _fenced(f"{tool} {malformed or json.dumps(dict(arguments), ensure_ascii=False)}")
            case ToolResult(name=tool, content=content, outcome=outcome):
                yield f"Result of `{tool}` ({outcome}):\n\n{_fenced(content)}"
                yield from (_image(image) for image in part.images)
            case ImagePart():
                yield _image(part)


def as_json(session: str, stored: StoredMessage) -> dict[str, Any]:
    """A message and its place; `legacy/sessions_file.py` reads it again."""
    place = {"seq": stored.seq, "turn": stored.turn_id, "created_at": stored.created_at}
    return {"session": session, **place, **message_to_json(stored.message)}


def _image(image: ImagePart) -> str:
    return f"[{image.media_type}, {len(image.data) * 3 // 4:,} bytes]\n"


def _fenced(text: str) -> str:
    """`text` as a code block whose fence is longer than any in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}\n"
