"""A part of a conversation in short, without a model: what was asked when, answered, and done with tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby

from nanobot.store.records import StoredMessage

_LINES = 24  # of them at most, half from the beginning, half from the end
_QUESTION = 160  # characters
_ANSWER = 100
_FILES = 8


def digest(messages: Sequence[StoredMessage]) -> str:
    """At most a few lines for each of a few turns, the first and the last ones."""
    turns = groupby(messages, key=lambda stored: stored.turn_id)
    lines = [line for _, turn in turns for line in _lines(list(turn))]
    if len(lines) > _LINES:
        half = _LINES // 2
        lines = [*lines[:half], f"(… {len(lines) - 2 * half} lines left out …)", *lines[-half:]]
    return "\n".join(lines)


def _lines(turn: Sequence[StoredMessage]) -> Iterator[str]:
    """What was asked, what was done, and the last words of a turn."""
    for stored in turn:
        if stored.message.role == "user" and (asked := _first_line(stored.message.text, _QUESTION)):
            day = datetime.fromtimestamp(stored.created_at).strftime("%Y-%m-%d %H:%M")
            yield f"[{day}, #{stored.seq}] asked: {asked}"
    calls = [call for stored in turn for call in stored.message.tool_calls]
    if calls:
        counts = Counter(call.name for call in calls).items()
        paths = dict.fromkeys(_first_line(str(call.arguments.get("path", "")), _ANSWER) for call in calls)
        files = ", ".join(list(filter(None, paths))[:_FILES])
        tools = ", ".join(f"{name} ×{number}" for name, number in counts)
        yield f"  used {tools}" + (f", on {files}" if files else "")
    answers = [stored.message.text for stored in turn if stored.message.role == "assistant"]
    if answered := _first_line(next(filter(None, reversed(answers)), ""), _ANSWER):
        yield f"  answered: {answered}"


def _first_line(text: str, limit: int) -> str:
    line = " ".join(text.strip().split("\n", 1)[0].split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
