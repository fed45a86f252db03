"""Forgetting: find what says it, show it, and take it out of files, database, index and backups."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from nanobot import paths
from nanobot.cron.table import JobTable
from nanobot.errors import UsageError
from nanobot.memory.consolidation import Consolidator
from nanobot.memory.facts import Fact, HistoryEntry, parse_facts, parse_history, split_message_id
from nanobot.memory.files import hold, rewrite, to_the_end
from nanobot.memory.redaction import CLEANING, Matches, Redaction, Target
from nanobot.memory.search import MemorySearch, message_named
from nanobot.memory.words import content_words
from nanobot.store.records import StoredMessage

_FACT_ID = re.compile(r"[0-9a-f]{8}")
_EVIDENCE = re.compile(r"<!--[^>]*#[\d,-]+ -->")  # where a line comes from: no words of it
_MARKS = re.compile("[\u0300-\u036f]")
_STEM = 4  # letters by which the words of a fact are found in another form
_SHORTEST = 3  # bytes; less would match nearly everything, but one Chinese character may be a word

Item = TypeVar("Item", Fact, HistoryEntry)


@dataclass(frozen=True)
class ForgetScope:
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
    """What a request to forget `wanted` is about. `matches` is true of texts that say it."""

    wanted: str
    scope: ForgetScope
    facts: tuple[Fact, ...]
    history: tuple[HistoryEntry, ...]
    messages: tuple[tuple[str, StoredMessage], ...]
    jobs: tuple[str, ...]
    matches: Matches

    def __bool__(self) -> bool:
        return bool(self.facts or self.history or self.messages or self.jobs)

    def lines(self) -> Iterator[str]:
        """What will be gone, for the person who decides."""
        yield from (f"fact {fact.id}: {fact.text}" for fact in self.facts)
        yield from (f"history [{entry.origin.day}] {entry.text}" for entry in self.history)
        for session, entry in self.messages:
            text = " ".join(entry.message.all_text.split()) or "(tool call or result)"
            yield f"message {session}#{entry.seq} {entry.message.role}: {text}"
        yield from (f"job: {text}" for text in self.jobs)


@dataclass(frozen=True)
class Forgetter:
    """Forgets in the memory of `consolidator` and in the search index, which `open_search` opens."""

    consolidator: Consolidator
    workspace: Path
    open_search: Callable[[], MemorySearch]

    @property
    def _redaction(self) -> Redaction:
        return Redaction(self.consolidator.store.database)

    async def find(self, wanted: str, scope: ForgetScope) -> Found:
        """What TEXT, the id of a fact or the id of a message is about. Raises UsageError, StorageError."""
        files = self.consolidator.files
        facts = [fact for fact in await asyncio.to_thread(files.facts) if scope.allows(fact)]
        entries = [entry for entry in await asyncio.to_thread(files.entries) if scope.allows(entry)]
        named, matches, messages = await self._named(wanted, scope, facts)
        jobs = [] if scope.session else await JobTable(self.consolidator.store.database).all()
        unique = {(session, entry.seq): (session, entry) for session, entry in messages}
        return Found(
            wanted,
            scope,
            tuple(fact for fact in facts if fact in named or matches(fact.text)),
            tuple(entry for entry in entries if matches(entry.text)),
            tuple(unique[place] for place in sorted(unique)),
            tuple(job.message for job in jobs if matches(job.message) or matches(job.name)),
            matches,
        )

    async def _named(
        self, wanted: str, scope: ForgetScope, facts: list[Fact]
    ) -> tuple[list[Fact], Matches, list[tuple[str, StoredMessage]]]:
        """The facts that `wanted` names, what is true of texts that say it, and the messages meant."""
        one = await message_named(self.consolidator.store, wanted.strip())
        if one and scope.session in ("", one[0]):
            return (
                [fact for fact in facts if fact.origin.messages == (wanted.strip(),)],
                lambda _: False,
                [one],
            )
        named = [fact for fact in facts if _FACT_ID.fullmatch(wanted) and fact.id == wanted]
        matches = _says(named[0].text, closely=False) if named else _says(wanted)
        messages = await self._redaction.messages_like(Target(matches, only=scope.session))
        for fact in named:
            messages += await self._turns_of(fact, scope)
        return named, matches, messages

    async def _turns_of(self, fact: Fact, scope: ForgetScope) -> list[tuple[str, StoredMessage]]:
        """The whole turns in which a fact was said: answers repeat it."""
        found: list[tuple[str, StoredMessage]] = []
        for session, seq in map(split_message_id, fact.origin.messages):
            if scope.session in ("", session):
                found += [(session, entry) for entry in await self._redaction.turn_with(session, seq)]
        return found

    async def forget(self, found: Found) -> int:
        """Remove it; returns how many messages lost their words. What is broken off is finished by `finish`.

        Raises StorageError.
        """
        await self.finish()
        await self.consolidator.finish_pending()
        async with hold("memory"):
            request = json.dumps({"wanted": found.wanted, **asdict(found.scope)})
            return await self._remove(await self._redaction.begin(request), found)

    async def finish(self) -> None:
        """Finish what was broken off, also by a process that was killed. Raises StorageError."""
        if not await self._redaction.pending():
            return
        async with hold("memory"):
            for number, request in await self._redaction.pending():
                if request == CLEANING:
                    await self._redaction.end(number)
                else:
                    asked = json.loads(request)
                    wanted = asked.pop("wanted")
                    await self._remove(number, await self.find(wanted, ForgetScope(**asked)))

    async def _remove(self, number: int, found: Found) -> int:
        """MEMORY.md comes last: until then a fact's id tells what is meant, whatever else is gone."""
        places = frozenset((session, entry.seq) for session, entry in found.messages)
        target = Target(found.matches, places, found.scope.session)
        redacted = await self._redaction.redact(target)
        await to_the_end(asyncio.to_thread(self._clean_files, found, target))
        search = self.open_search()
        try:
            await search.rebuild()
        finally:
            await search.aclose()
        await self._redaction.end(number)
        return redacted

    def _clean_files(self, found: Found, target: Target) -> None:
        files = self.consolidator.files

        def clean_facts(text: str) -> str:
            doomed = {fact.line for fact in _meant(parse_facts(text), found.facts, found)}
            return _without(text, doomed, found)

        def clean_history(text: str) -> str:
            entries = parse_history(text)
            ends = [*(entry.line for entry in entries[1:]), text.count("\n") + 1]
            meant = set(_meant(entries, found.history, found))
            spans = [
                range(entry.line, end) for entry, end in zip(entries, ends, strict=False) if entry in meant
            ]
            return _without(text, {number for span in spans for number in span}, found)

        rewrite(files.history, clean_history)
        for copy in [files.waiting, *files.backups.glob("*.md")]:
            rewrite(copy, clean_facts)
        if not found.scope.session:
            _clean_other_files(self.workspace, target)
        for stale in [*files.folder.glob(".*.md.*"), *files.backups.glob(".*.md.*")]:  # of killed processes
            stale.unlink(missing_ok=True)
        rewrite(files.memory, clean_facts)


def _meant(items: list[Item], named: tuple[Item, ...], found: Found) -> list[Item]:
    """The items of a file that were found in another state of it, or say it."""
    return [
        item for item in items if item in named or (found.scope.allows(item) and found.matches(item.text))
    ]


def _without(text: str, doomed: set[int], found: Found) -> str:
    """The lines that are not doomed; for the owner also without others that say it, such as headings."""
    everywhere = not found.scope.session
    return "\n".join(
        line
        for number, line in enumerate(text.split("\n"))
        if not line or not (number in doomed or (everywhere and found.matches(_EVIDENCE.sub("", line))))
    )


def _clean_other_files(workspace: Path, target: Target) -> None:
    """Lines typed in the terminal, and conversations of the older nanobot."""
    rewrite(paths.home() / "history" / "cli_history", lambda text: _clean_prompts(text, target.matches))
    for folder in (workspace / "sessions", paths.home() / "sessions"):
        for conversation in folder.glob("*.jsonl"):
            rewrite(conversation, lambda text: _clean_json_lines(text, target))


def _clean_prompts(text: str, matches: Matches) -> str:
    """The terminal's history: `# time` and then the lines of an entry, each behind a plus sign."""
    entries = re.split(r"(?m)^(?=# )", text)
    return "".join(entry for entry in entries if not matches(re.sub(r"(?m)^[+#]", "", entry)))


def _clean_json_lines(text: str, target: Target) -> str:
    """A message that says it keeps its role alone."""

    def clean(line: str) -> str:
        try:
            data = json.loads(line)
        except ValueError:
            return "" if target.matches(line) else line
        if not isinstance(data, dict) or not target.holds(data):
            return line
        return json.dumps({"role": data.get("role", "user"), "content": "[forgotten]"})

    return "\n".join(clean(line) for line in text.split("\n"))


def _says(wanted: str, *, closely: bool = True) -> Matches:
    """True of texts that contain `wanted`, however it is spaced and written in capitals.

    Not `closely`: also of those that have all of its words. Raises UsageError when it is too short.
    """
    needle = _plain(wanted).rstrip(".!?")
    if len(needle.encode()) < _SHORTEST:
        raise UsageError("That is too little to search for. Give at least three letters, or an id.")
    stems = set() if closely else {_bare(word)[:_STEM] for word in content_words(wanted)}

    def matches(text: str) -> bool:
        if needle in _plain(text):
            return True
        bare = _bare(text) if len(stems) > 1 else ""
        return bare != "" and all(stem in bare for stem in stems)

    return matches


def _bare(text: str) -> str:
    """`text` in small letters, "á" as "a"."""
    return _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
