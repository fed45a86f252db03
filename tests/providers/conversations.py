"""Conversations that exercise every kind of message part."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from nanobot.messages import (
    ContextPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)

PIXEL = ImagePart(
    "image/png",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
)


def tool(result: ToolResult) -> Message:
    return Message("tool", (result,))


def long_conversation(provider: str) -> list[Message]:
    """Ten inputs with images, reasoning, parallel calls, failures, odd ids and empty texts."""
    return [
        Message("user", (TextPart("Compare these."), PIXEL, ContextPart("It is Monday, 10:00."))),
        Message.assistant(
            "Let me look.",
            ReasoningPart("Two files.", signature='[{"type":"reasoning.text"}]', provider=provider),
            ToolCall("call_1", "read_file", {"path": "a.png"}),
            ToolCall("functions.list_dir:0|fc_" + "x" * 60, "list_dir", {}),
        ),
        tool(ToolResult("call_1", "read_file", "a picture", images=(PIXEL,))),
        tool(ToolResult("functions.list_dir:0|fc_" + "x" * 60, "list_dir", "", "error")),
        Message.assistant("They differ.", ReasoningPart("Done.", signature="[]", provider="elsewhere")),
        Message.user("  ", ContextPart("A note.")),
        Message.assistant("", ToolCall("call_2", "get_time", {}, malformed="{oops")),
        tool(ToolResult("call_2", "get_time", "arguments are no JSON", "error")),
        Message.assistant(""),
        Message.user("Thanks \ud83d"),
        Message.user("and bye"),
    ]


def requests_of(conversation: list[Message]) -> list[list[Message]]:
    """The messages of every model call the conversation has had: up to each input that was answered."""
    ends = [index for index, message in enumerate(conversation) if message.role == "assistant"]
    return [conversation[:end] for end in [*ends, len(conversation)]]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield from _places(value[key], (*path, key))


@st.composite
def damaged(draw: st.DrawFn, events: list[Any]) -> list[Any]:
    """`events` with one to three values anywhere in them replaced by some other JSON value."""
    broken = copy.deepcopy(events)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(_places(broken))))
        target = broken
        for key in path:
            target = target[key]
        target[last] = draw(ANY_JSON)
    return broken
