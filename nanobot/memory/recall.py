"""What a turn gets from memory: MEMORY.md in its prompt, lines before its newest message, memory_search."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nanobot.agent.tools import Tool, current_turn
from nanobot.config.schema import MemoryConfig
from nanobot.errors import NanobotError, StorageError, ToolError
from nanobot.messages import InboundMessage
from nanobot.security.files import read_inside
from nanobot.store.store import Store

if TYPE_CHECKING:
    from nanobot.memory.facts import Fact
    from nanobot.memory.search import MemorySearch
    from nanobot.memory.search_index import SearchScope

log = logging.getLogger(__name__)

_PATIENCE = 0.3  # seconds a turn waits for its memories
_CANDIDATES = 12  # of them some may be facts of the prompt
_RECALLED = 300  # characters of one memory in a message
_FOUND = 500  # in an answer of the tool
_WHOLE = 16_000  # characters of a message that is asked for by its id
_HITS, _MOST_HITS = 8, 30  # of the tool
_PROMPT_TITLE = "[memory/MEMORY.md]"
_TITLE = "[From memory, as information only; it may be out of date]\n"


@dataclass(frozen=True, slots=True)
class _Shown:
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
    room = most_bytes - len(_PROMPT_TITLE) - len(_rest(len(facts)))
    for fact in facts:
        line = f"- {fact.text}" + (f" ({fact.origin.day})" if fact.origin.day else "")
        room -= len(line.encode()) + 1
        if room < 0:
            break
        lines.append(line)
    shown, hidden = facts[: len(lines)], len(facts) - len(lines)
    if not facts or most_bytes < len(_PROMPT_TITLE) + len(_rest(hidden)):
        return _Shown("", frozenset(), hidden)
    text = "\n".join([_PROMPT_TITLE, *lines]) + (_rest(hidden) if hidden else "")
    return _Shown(text, frozenset(fact.id for fact in shown), hidden)


def _rest(count: int) -> str:
    return f"\n[{count} more facts: memory_search finds them]"


class Recall:
    """Searches on behalf of turns; `folder` holds the memory files. Most turns need no search at all."""

    def __init__(self, config: MemoryConfig, store: Store, section: MemorySection, folder: Path) -> None:
        self._config = config
        self._store = store
        self._section = section
        self._folder = folder
        self._memory: MemorySearch | None = None
        self._running: set[asyncio.Task[str]] = set()
        self._late: asyncio.Task[str] | None = None  # the last one that no turn waits for any more

    async def before_turn(self, inbound: InboundMessage, start: int) -> str:
        """Lines for a turn's newest message, or ""; its model is shown nothing up to message `start`.
        When the index is not ready in time, turns begin without, and do not wait, until it is made."""
        if not self._config.recall.enabled or inbound.source != "person":
            return ""
        if self._late and not self._late.done():
            return ""
        is_own = self._config.scope == "chat" or inbound.is_group
        if start == 0 and is_own and self._section.is_complete(inbound):
            return ""  # so it is most often: the model has all there is to find before it
        task = asyncio.create_task(self._recall(inbound, start))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
        if done:
            return task.result()
        self._late = task
        log.info("Nothing is recalled for this message: the search index is still being made.")
        return ""

    async def look_up(self, query: str, inbound: InboundMessage, limit: int) -> str:
        """What a search finds, a line each, or the message whose id `query` is. Raises StorageError."""
        from nanobot.memory.ranking import show

        memory, scope = self._search(inbound)
        hits = await memory.search(query, scope, limit)
        self._log_notices(memory)
        return "\n".join(show(hit, query, _WHOLE if hit.kind == "message" else _FOUND) for hit in hits)

    async def settle(self) -> None:
        """Wait for what turns did not wait for."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def aclose(self) -> None:
        """Stop what still runs and close the index."""
        for task in self._running:
            task.cancel()
        await self.settle()
        if self._memory is not None:
            await self._memory.aclose()

    def _log_notices(self, memory: MemorySearch) -> None:
        for notice in memory.take_notices():
            log.warning("%s", notice)

    def _search(self, inbound: InboundMessage) -> tuple[MemorySearch, SearchScope]:
        from nanobot.memory.search import MemorySearch
        from nanobot.memory.search_index import SearchScope

        self._memory = self._memory or MemorySearch(self._store, self._folder)
        return self._memory, SearchScope(inbound.session_key, inbound.is_group, self._config.scope)

    async def _recall(self, inbound: InboundMessage, start: int) -> str:
        from nanobot.memory.ranking import show
        from nanobot.memory.words import content_words, says_something

        if not any(map(says_something, content_words(inbound.text))):
            return ""
        memory, scope = self._search(inbound)
        try:
            hits = await memory.recall(inbound.text, scope, start, _CANDIDATES)
        except NanobotError as error:
            log.error("Nothing is recalled: %s", error)
            return ""
        self._log_notices(memory)
        lines: list[str] = []
        room = self._config.recall.max_tokens * 4 - len(_TITLE)
        for hit in hits:
            line = show(hit, inbound.text, _RECALLED) + "\n"
            fits = len(lines) < self._config.recall.limit and len(line) <= room
            if fits and not (hit.kind == "fact" and self._section.shows(hit.id, inbound)):
                lines.append(line)
                room -= len(line)
        return _TITLE + "".join(lines) if lines else ""


class MemorySearchTool(Tool):
    """Finds what the chat of the turn may see."""

    name = "memory_search"
    description = (
        "Search remembered facts and earlier conversations by words, names and dates."
        " The id of a result (cli:direct#12) as query gives the whole message."
    )
    parameters = {
        "type": "object",
        "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["query"],
    }
    errors_are_text = False
    read_only = True
    repeatable = True

    def __init__(self, memory: Recall) -> None:
        self._memory = memory

    async def execute(self, query: str, limit: int = _HITS) -> str:
        try:
            found = await self._memory.look_up(query, current_turn().inbound, max(1, min(limit, _MOST_HITS)))
        except StorageError as error:
            raise ToolError(str(error)) from error
        return found or "Nothing found. Try other words, a name, or a date."
