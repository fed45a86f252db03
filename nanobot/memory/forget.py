"""Forgetting: find what says it, show it, and take it out of files, database, index and backups."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nanobot.cron.table import JobTable
from nanobot.errors import UsageError
from nanobot.memory.consolidation import Consolidator
from nanobot.memory.facts import Fact, HistoryEntry, message_id, parse_facts, parse_history, split_message_id
from nanobot.memory.files import hold, rewrite, to_the_end
from nanobot.memory.grounding import without_accents, words
from nanobot.memory.leftovers import clean_leftovers
from nanobot.memory.search import MemorySearch
from nanobot.store.forgetting import Forgetting, Matches
from nanobot.store.records import StoredMessage
from nanobot.store.store import Store

_FACT_ID = re.compile(r"[0-9a-f]{8}")
_EVIDENCE = re.compile(r"<!--[^>]*#[\d,-]+ -->")  # where a line comes from: no words of it
_PAGE = 200  # messages of a turn that are read at once
_SHORTEST = 3  # bytes; less would match nearly everything, but one Chinese character may be a word

Places = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Scope:
    """What may be forgotten from where: `session` is a chat's key, "" the owner's terminal.

    `owner`: a chat that also speaks for the owner's own memory.
    """

    session: str = ""
    is_group: bool = False
    owner: bool = True

    def allows(self, item: Fact | HistoryEntry) -> bool:
        if not self.session:
            return True
        if not item.origin.visible_in(self.session, is_group=self.is_group):
            return False
        sessions = {split_message_id(name)[0] for name in item.origin.messages}
        return self.owner or self.is_group or sessions == {self.session}


@dataclass(frozen=True)
class Found:
    """What a request to forget is about. `matches` is true of texts that say it."""

    facts: tuple[Fact, ...]
    history: tuple[HistoryEntry, ...]
    messages: tuple[tuple[str, StoredMessage], ...]
    jobs: tuple[str, ...]
    matches: Matches

    def __bool__(self) -> bool:
        return bool(self.facts or self.history or self.messages or self.jobs)

    @property
    def places(self) -> Places:
        return frozenset((session, entry.seq) for session, entry in self.messages)

    def lines(self) -> Iterator[str]:
        """What will be gone, for the person who decides."""
        yield from (f"fact {fact.id}: {fact.text}" for fact in self.facts)
        yield from (f"history [{entry.origin.day}] {entry.text}" for entry in self.history)
        for session, entry in self.messages:
            text = " ".join(entry.message.text.split()) or "(tool call or result)"
            yield f"message {session}#{entry.seq} {entry.message.role}: {text}"
        yield from (f"job: {text}" for text in self.jobs)


@dataclass(frozen=True)
class Forgetter:
    """Forgets in the memory of `consolidator` and in the search index, which `open_search` opens."""

    consolidator: Consolidator
    workspace: Path
    open_search: Callable[[], MemorySearch]

    @property
    def _store(self) -> Store:
        return self.consolidator.store

    @property
    def _rows(self) -> Forgetting:
        return Forgetting(self._store.database)

    async def find(self, wanted: str, scope: Scope) -> Found:
        """What TEXT, the id of a fact or the id of a message is about. Raises UsageError, StorageError."""
        files = self.consolidator.files
        facts = [fact for fact in await asyncio.to_thread(files.facts) if scope.allows(fact)]
        entries = [entry for entry in await asyncio.to_thread(files.entries) if scope.allows(entry)]
        named = [fact for fact in facts if _FACT_ID.fullmatch(wanted) and fact.id == wanted]
        if one := await self._message(wanted, scope):
            matches: Matches = _nothing
            messages = [one]
            named = [fact for fact in facts if fact.origin.messages == (wanted.strip(),)]
        else:
            matches = _says(named[0].text, closely=False) if named else _says(wanted)
            messages = await self._rows.messages_like(matches, scope.session)
            for fact in named:
                messages += await self._turns_of(fact, scope)
        told = [fact for fact in facts if fact in named or matches(fact.text)]
        past = [entry for entry in entries if matches(entry.text)]
        jobs = [] if scope.session else await JobTable(self._store.database).all()
        unique = {(session, entry.seq): (session, entry) for session, entry in messages}
        return Found(
            tuple(told),
            tuple(past),
            tuple(unique[place] for place in sorted(unique)),
            tuple(job.message for job in jobs if matches(job.message) or matches(job.name)),
            matches,
        )

    async def _message(self, wanted: str, scope: Scope) -> tuple[str, StoredMessage] | None:
        try:
            session, seq = split_message_id(wanted.strip())
        except ValueError:
            return None
        if scope.session not in ("", session):
            return None
        found = await self._store.sessions.history(session, after=seq - 1, limit=1)
        return (session, found[0]) if found and found[0].seq == seq else None

    async def _turns_of(self, fact: Fact, scope: Scope) -> list[tuple[str, StoredMessage]]:
        """The whole turns in which a fact was said: answers repeat it."""
        found: list[tuple[str, StoredMessage]] = []
        for session, seq in map(split_message_id, fact.origin.messages):
            if scope.session not in ("", session):
                continue
            found += [(session, entry) for entry in await self._turn_with(session, seq)]
        return found

    async def _turn_with(self, session: str, seq: int) -> list[StoredMessage]:
        """All messages of the turn in which message `seq` was said, however many."""
        turn = [
            entry
            for entry in await self._store.sessions.history(session, after=seq - 1, limit=1)
            if entry.seq == seq
        ]
        ends = not turn
        while not ends:
            page = await self._store.sessions.history(session, after=turn[-1].seq, limit=_PAGE)
            more = [entry for entry in page if entry.turn_id == turn[0].turn_id]
            turn, ends = turn + more, len(more) < _PAGE
        begins = not turn or turn[0].seq == 1
        while not begins:
            after = max(0, turn[0].seq - 1 - _PAGE)
            page = await self._store.sessions.history(session, after=after, limit=turn[0].seq - 1 - after)
            more = [entry for entry in page if entry.turn_id == turn[0].turn_id]
            turn, begins = more + turn, len(more) < len(page) or after == 0
        return turn

    async def forget(self, found: Found, scope: Scope) -> int:
        """Remove it; returns how many messages lost their words. Doing so again finishes a broken-off try.

        Raises StorageError.
        """
        await self.consolidator.finish_pending()
        async with hold("memory"):
            redacted = await self._rows.redact(found.matches, found.places, scope.session)
            await to_the_end(asyncio.to_thread(self._clean_files, found, scope))
        await self._clean_index(redacted)
        await self._rows.scrub()
        return len(redacted)

    async def _clean_index(self, redacted: list[tuple[str, int]]) -> None:
        search = self.open_search()
        try:
            await search.reindex([message_id(*place) for place in redacted])
        finally:
            await search.aclose()

    def _clean_files(self, found: Found, scope: Scope) -> None:
        facts, entries, files = set(found.facts), set(found.history), self.consolidator.files

        def is_told(line: str) -> bool:
            return not scope.session and found.matches(_EVIDENCE.sub("", line))

        def clean_facts(text: str) -> str:
            parsed = [fact for fact in parse_facts(text) if fact in facts or is_meant(fact)]
            doomed = {fact.line for fact in parsed}
            return _without(text, lambda number, line: number in doomed or is_told(line))

        def clean_history(text: str) -> str:
            parsed = parse_history(text)
            ends = [*(entry.line for entry in parsed[1:]), text.count("\n") + 1]
            spans = [
                range(entry.line, end)
                for entry, end in zip(parsed, ends, strict=False)
                if entry in entries or is_meant(entry)
            ]
            doomed = {number for span in spans for number in span}
            return _without(text, lambda number, line: line != "" and (number in doomed or is_told(line)))

        def is_meant(item: Fact | HistoryEntry) -> bool:
            return scope.allows(item) and found.matches(item.text)

        rewrite(files.history, clean_history)
        for backup in files.backups.glob("*.md"):
            rewrite(backup, clean_facts)
        if not scope.session:
            clean_leftovers(self.workspace, found.matches)
        for stale in [*files.folder.glob(".*.md.*"), *files.backups.glob(".*.md.*")]:  # of killed processes
            stale.unlink(missing_ok=True)
        rewrite(files.memory, clean_facts)  # last: until then an id is found again


def _nothing(text: str) -> bool:
    return False


def _says(wanted: str, *, closely: bool = True) -> Matches:
    """True of texts that contain `wanted`, however it is spaced and written in capitals.

    Not `closely`: also of those that have all of its words. Raises UsageError when it is too short.
    """
    needle = _plain(wanted).rstrip(".!?")
    if len(needle.encode()) < _SHORTEST:
        raise UsageError("That is too little to search for. Give at least three letters, or an id.")
    stems = set() if closely else words(wanted)

    def matches(text: str) -> bool:
        if needle in _plain(text):
            return True
        bare = without_accents(text) if len(stems) > 1 else ""
        return bare != "" and all(stem in bare for stem in stems)

    return matches


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _without(text: str, is_gone: Callable[[int, str], bool]) -> str:
    lines = text.split("\n")
    return "\n".join(line for number, line in enumerate(lines) if not is_gone(number, line))
