"""What the model is shown: the system prompt in order of stability, and the part of history that fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from nanobot.agent.tools.base import TurnContext
from nanobot.messages import ContextPart

OWNER_FILES = ("AGENTS.md", "SOUL.md", "USER.md", "TOOLS.md", "IDENTITY.md")

_OWNER_FILE_LIMIT = 16_000  # characters of one owner file that reach the prompt
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


class PromptSection(Protocol):
    """A part of the system prompt that another room writes: skills, memory."""

    name: str

    def text(self, turn: TurnContext) -> str:
        """The part for this turn, or "". Asked for every turn: cheap, and the same as long as it can be."""


class PromptBuilder:
    """Builds the system prompt of a workspace; the owner's files are read anew for every turn."""

    def __init__(self, workspace: Path, sections: Sequence[PromptSection] = ()) -> None:
        self._workspace = workspace
        self._sections = sections

    def parts(self, turn: TurnContext, *, with_tools: bool) -> list[tuple[str, str]]:
        """Name and text of every part of the system prompt: the most stable one first."""
        if not with_tools:
            return [("rules", _prompt("chat_only.md"))]
        parts = [("rules", _prompt("system.md").format(workspace=self._workspace))]
        parts += self.owner_parts(OWNER_FILES)
        for section in self._sections:
            parts.append((section.name, section.text(turn)))
        return [(name, text) for name, text in parts if text]

    def owner_parts(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Name and part of these files of the owner, those left out that say nothing."""
        texts = {name: self._owner_file(name, _OWNER_FILE_LIMIT) for name in names}
        return [(name, f"[{name}]\n{text}") for name, text in texts.items() if _says_something(text)]

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
