"""What the model is shown: the system prompt in order of stability, and the part of history that fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from nanobot.agent.tools.base import TurnContext
from nanobot.messages import ContextPart, ImagePart, Message, ReasoningPart, TextPart, ToolCall, ToolResult
from nanobot.session.store import StoredMessage

OWNER_FILES = ("AGENTS.md", "SOUL.md", "USER.md", "TOOLS.md", "IDENTITY.md")
MEMORY_FILE = "memory/MEMORY.md"

_OWNER_FILE_LIMIT = 16_000  # characters of one owner file that reach the prompt
_IMAGE_COST = 6_000  # an image counts like this many characters
_CHARACTERS_PER_TOKEN = 4
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


class PromptSection(Protocol):
    """A part of the system prompt that another room writes: skills, memory."""

    def text(self, turn: TurnContext) -> str:
        """The part for this turn, or "". Asked for every turn: cheap, and the same as long as it can be."""


class PromptBuilder:
    """Builds the system prompt of a workspace; the owner's files are read anew for every turn."""

    def __init__(self, workspace: Path, memory_bytes: int, sections: Sequence[PromptSection] = ()) -> None:
        self._workspace = workspace
        self._memory_bytes = memory_bytes
        self._sections = sections

    def system_prompt(self, turn: TurnContext, *, with_tools: bool) -> str:
        """Identity and rules, owner files, sections, memory: the most stable part first."""
        if not with_tools:
            return _prompt("chat_only.md")
        parts = [_prompt("system.md").format(workspace=self._workspace)]
        for name in OWNER_FILES:
            text = self._owner_file(name, _OWNER_FILE_LIMIT)
            if _says_something(text):
                parts.append(f"[{name}]\n{text}")
        parts += filter(None, (section.text(turn) for section in self._sections))
        memory = self._owner_file(MEMORY_FILE, self._memory_bytes)
        if memory:
            parts.append(f"[{MEMORY_FILE}]\n{memory}")
        return "\n\n".join(parts)

    def _owner_file(self, name: str, limit: int) -> str:
        path = self._workspace / name
        if not path.is_file():
            return ""
        text = _COMMENT.sub("", path.read_text(encoding="utf-8", errors="replace")).strip()
        if len(text) <= limit:
            return text
        return text[:limit] + f"\n[… cut; read {name} for the rest …]"


def _prompt(name: str) -> str:
    text = (Path(__file__).parent / "prompts" / name).read_text(encoding="utf-8")
    return text.strip()


def _says_something(text: str) -> bool:
    return any(line.strip() and not line.startswith("#") for line in text.splitlines())


def runtime_note(now: datetime, turn: TurnContext) -> ContextPart:
    """What changes from turn to turn; it travels in the newest user message to keep the prefix stable."""
    return ContextPart(
        f"[{now:%Y-%m-%d %H:%M %A} UTC{now:%z}; channel {turn.channel}, chat {turn.chat_id}]\n"
    )


def history_start(stored: Sequence[StoredMessage], window: int, budget: int) -> int:
    """Where the context must begin so that history fits; 0 when it fits as it is.

    Returns the seq of the last message to leave out. Cuts between turns only, and to half of what is
    allowed, so that the prefix of requests stays the same for many turns. `budget` is in characters.
    """
    sizes = [message_size(entry.message) for entry in stored]
    if len(stored) <= window and sum(sizes) <= budget:
        return 0
    turn_starts = [i for i in range(1, len(stored)) if stored[i].turn_id != stored[i - 1].turn_id]
    for share in (2, 1):
        for index in turn_starts:
            if len(stored) - index <= window // share and sum(sizes[index:]) <= budget // share:
                return stored[index - 1].seq
    return stored[-1].seq if stored else 0


def history_budget(context_window: int, max_tokens: int, fixed: int) -> int:
    """Characters left for history beside the answer and `fixed` characters of prompt and tools."""
    answer = min(max_tokens, context_window // 4)
    return max(0, (context_window - answer) * _CHARACTERS_PER_TOKEN * 9 // 10 - fixed)


def message_size(message: Message) -> int:
    """The size of a message in characters, images at a flat rate."""
    return sum(_part_size(part) for part in message.parts)


def _part_size(part: object) -> int:
    if isinstance(part, TextPart | ContextPart | ReasoningPart):
        return len(part.text)
    if isinstance(part, ToolResult):
        return len(part.content) + _IMAGE_COST * len(part.images)
    if isinstance(part, ToolCall):
        return len(part.name) + len(str(part.arguments))
    return _IMAGE_COST if isinstance(part, ImagePart) else 0
