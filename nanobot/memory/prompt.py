"""MEMORY.md as a part of the system prompt: as much of it as the owner allows, whole lines only."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanobot.errors import ToolError
from nanobot.messages import InboundMessage
from nanobot.security.files import read_inside

if TYPE_CHECKING:
    from nanobot.memory.facts import Fact

log = logging.getLogger(__name__)

_TITLE = "[memory/MEMORY.md]"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A prompt's section, the facts in it and how many there was no room for."""

    text: str
    ids: frozenset[str]
    hidden: int


class MemorySection:
    """Facts in the order of the file, so that a new one at its end leaves the prompt's beginning alone.
    A group is shown what was said in it, everybody else what was not said in groups."""

    name = "memory"

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._file = folder / "MEMORY.md"
        self._history = folder / "HISTORY.md"
        self._most_bytes = most_bytes
        self._stamp: tuple[int, int, int] | None = None
        self._facts: list[Fact] = []
        self._shown: dict[str, _Shown] = {}

    def text(self, inbound: InboundMessage) -> str:
        """The section for this turn, or ""."""
        return self._of(inbound).text

    def shows(self, fact_id: str, inbound: InboundMessage) -> bool:
        """Whether the prompt of this turn holds a fact."""
        return fact_id in self._of(inbound).ids

    def is_complete(self, inbound: InboundMessage) -> bool:
        """Whether the prompt leaves nothing of the memory files to be searched for."""
        return not self._of(inbound).hidden and not self._history.exists()

    def _of(self, inbound: InboundMessage) -> _Shown:
        self._read()
        group = inbound.session_key if inbound.is_group else ""
        if group not in self._shown:
            facts = [fact for fact in self._facts if fact.origin.group == group]
            self._shown[group] = _fit(facts, self._most_bytes)
        return self._shown[group]

    def _read(self) -> None:
        facts: list[Fact] = []
        try:
            about = self._file.stat()
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
            if stamp == self._stamp:
                return
            facts = _facts(read_inside(self._file.parent.parent, self._file))
        except OSError:  # none yet
            stamp = None
        except ToolError as error:  # a link that leads out of the workspace
            log.error("MEMORY.md is not read: %s", error)
        self._stamp, self._facts, self._shown = stamp, facts, {}


def _facts(content: bytes) -> list[Fact]:
    """The facts of the file; nothing is imported for one that only has its first comment."""
    if all(line.startswith((b"#", b"<!--")) for line in content.split(b"\n") if line):
        return []
    from nanobot.memory.facts import decode_memory, parse_facts

    return parse_facts(decode_memory(content))


def _fit(facts: list[Fact], most_bytes: int) -> _Shown:
    lines: list[str] = []
    room = most_bytes - len(_TITLE) - len(_rest(len(facts)))
    for fact in facts:
        line = f"- {fact.text}" + (f" ({fact.origin.day})" if fact.origin.day else "")
        room -= len(line.encode()) + 1
        if room < 0:
            break
        lines.append(line)
    shown, hidden = facts[: len(lines)], len(facts) - len(lines)
    if not facts or most_bytes < len(_TITLE) + len(_rest(hidden)):
        return _Shown("", frozenset(), hidden)
    text = "\n".join([_TITLE, *lines]) + (_rest(hidden) if hidden else "")
    return _Shown(text, frozenset(fact.id for fact in shown), hidden)


def _rest(count: int) -> str:
    return f"\n[{count} more facts: memory_search finds them]"
