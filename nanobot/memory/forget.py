"""Forgetting: find what says it, show it, and take it out of files, database, index and backups."""

from __future__ import annotations

import asyncio
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from nanobot import paths
from nanobot.cron.jobs import JobTable
from nanobot.errors import UsageError
from nanobot.memory.consolidation import Consolidator
from nanobot.memory.facts import Fact, HistoryEntry, parse_facts, parse_history, split_message_id
from nanobot.memory.files import hold, rewrite, to_the_end
from nanobot.memory.redaction import CLEANING, Matches, Redaction, Target, json_or_text
from nanobot.memory.search import MemorySearch, message_named
from nanobot.memory.words import content_words

_EVIDENCE = re.compile(r"<!--[^>]*#[\d,-]+ -->")  # where a line comes from: no words of it
_MARKS = re.compile("[\u0300-\u036f]")
_STEM = 4  # letters by which the words of a fact are found in another form
_SHORTEST = 3  # bytes; less would match nearly everything, but one Chinese character may be a word


@dataclass(frozen=True)
class ForgetScope:
    """What may be forgotten from where: `session` is a chat's key, "" the owner's terminal.
    `owner`: a chat that also speaks for the owner's own memory."""

    session: str = ""
    is_group: bool = False
    owner: bool = True

    def allows(self, item: Fact | HistoryEntry) -> bool:
        if not self.session:
            return True
        if item.origin.group != (self.session if self.is_group else ""):
            return False
        sessions = {split_message_id(name)[0] for name in item.origin.messages}
        return self.owner or self.is_group or sessions == {self.session}


@dataclass(frozen=True)
class Found(Target):
    """What a request to forget `wanted` is about."""

    wanted: str = ""
    scope: ForgetScope = ForgetScope()
    facts: tuple[Fact, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
    jobs: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.facts or self.history or self.messages or self.jobs)

    def means(self, item: Fact | HistoryEntry) -> bool:
        """Whether an item of a file was found, in another state of that file, or says it."""
        says_it = self.scope.allows(item) and self.matches(item.text)
        return says_it or item in self.facts or item in self.history

    def lines(self) -> Iterator[str]:
        """What will be gone, for the person who decides."""
        yield from (f"fact {fact.id}: {fact.text}" for fact in self.facts)
        yield from (f"history [{entry.origin.day}] {entry.text}" for entry in self.history)
        for (session, _), entry in self.messages.items():
            text = " ".join(entry.message.all_text.split()) or "(tool call or result)"
            yield f"message {session}#{entry.seq} {entry.message.role}: {text}"
        yield from (f"job: {text}" for text in self.jobs)


@dataclass(frozen=True)
class Forgetter:
    """Forgets in the memory of `consolidator`, in its store, and in the search index."""

    consolidator: Consolidator

    @property
    def _redaction(self) -> Redaction:
        return Redaction(self.consolidator.store.database)

    async def find(self, wanted: str, scope: ForgetScope) -> Found:
        """What TEXT, the id of a fact or the id of a message is about. Raises UsageError, StorageError."""
        store, files = self.consolidator.store, self.consolidator.files
        facts = [fact for fact in await asyncio.to_thread(files.facts) if scope.allows(fact)]
        entries = [entry for entry in await asyncio.to_thread(files.entries) if scope.allows(entry)]
        message = await message_named(store, wanted.strip())
        matches: Matches = frozenset[str]().__contains__  # true of nothing
        if message and scope.session in ("", message[0]):
            named = [fact for fact in facts if fact.origin.messages == (wanted.strip(),)]
            messages = [message]
        else:
            named = [fact for fact in facts if fact.id == wanted]
            matches = _says(named[0].text, closely=False) if named else _says(wanted)
            messages = await self._redaction.messages_like(matches, scope.session)
            for session, seq in (split_message_id(name) for fact in named for name in fact.origin.messages):
                if scope.session in ("", session):  # the whole turn: answers repeat it
                    messages += [(session, entry) for entry in await self._redaction.turn_with(session, seq)]
        jobs = [] if scope.session else await JobTable(store).all()
        said = {(session, entry.seq): entry for session, entry in messages}
        return Found(
            *(matches, {place: said[place] for place in sorted(said)}, scope.session, wanted, scope),
            tuple(fact for fact in facts if fact in named or matches(fact.text)),
            tuple(entry for entry in entries if matches(entry.text)),
            tuple(job.message for job in jobs if matches(job.message) or matches(job.name)),
        )

    async def forget(self, found: Found) -> int:
        """Remove it; how many messages lost their words. `finish` finishes what is broken off.
        Raises StorageError."""
        await self.consolidator.finish_pending()
        await self._redaction.begin(json.dumps({"wanted": found.wanted, **asdict(found.scope)}))
        await self.finish()
        return len(found.messages)

    async def finish(self) -> None:
        """Finish what was begun, also by a process that was killed. Raises StorageError."""
        if not await self._redaction.pending():
            return
        async with hold("memory"):
            for number, request in await self._redaction.pending():
                if request != CLEANING:
                    asked = json.loads(request)
                    wanted = asked.pop("wanted")
                    await self._remove(await self.find(wanted, ForgetScope(**asked)))
                await self._redaction.end(number)

    async def _remove(self, found: Found) -> None:
        """MEMORY.md comes last: until then a fact's id tells what is meant, whatever else is gone."""
        await self._redaction.redact(found)
        await to_the_end(asyncio.to_thread(self._clean_files, found))
        search = MemorySearch(self.consolidator.store, self.consolidator.files.folder)
        try:
            await search.rebuild()
        finally:
            await search.aclose()

    def _clean_files(self, found: Found) -> None:
        files = self.consolidator.files
        rewrite(files.history, lambda text: _without(text, found, parse_history(text)))
        if not found.only:  # lines typed in the terminal, conversations of the older nanobot
            typed = paths.home() / "history" / "cli_history"
            rewrite(typed, lambda text: _clean_prompts(text, found.matches))
            for folder in (files.folder.parent / "sessions", paths.home() / "sessions"):
                for conversation in folder.glob("*.jsonl"):
                    rewrite(conversation, lambda text: _clean_json_lines(text, found))
        for stale in [*files.folder.glob(".*.md.*"), *files.backups.glob(".*.md.*")]:  # of killed processes
            stale.unlink(missing_ok=True)
        for facts in [files.waiting, *files.backups.glob("*.md"), files.memory]:
            rewrite(facts, lambda text: _without(text, found, parse_facts(text)))


def _without(text: str, found: Found, items: Sequence[Fact | HistoryEntry]) -> str:
    """The file without what is meant; for the owner also without other lines that say it, like headings."""
    kept, inside, starts = list[str](), False, {item.line: item for item in items}
    for number, line in enumerate(text.split("\n")):
        item = starts.get(number)
        inside = found.means(item) if item else inside and isinstance(items[0], HistoryEntry)
        if not line or not (inside or (not found.only and found.matches(_EVIDENCE.sub("", line)))):
            kept.append(line)
    return "\n".join(kept)


def _clean_json_lines(text: str, found: Found) -> str:
    return "\n".join(line for line in text.split("\n") if not found.holds(json_or_text(line)))


def _clean_prompts(text: str, matches: Matches) -> str:
    """The terminal's history: `# time` and then the lines of an entry, each behind a plus sign."""
    entries = re.split(r"(?m)^(?=# )", text)
    return "".join(entry for entry in entries if not matches(re.sub(r"(?m)^[+#]", "", entry)))


def _says(wanted: str, *, closely: bool = True) -> Matches:
    """True of texts that contain `wanted`, however spaced and written in capitals. Raises UsageError.
    Not `closely`: also of those that have all of its words."""
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
    return _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold()))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
