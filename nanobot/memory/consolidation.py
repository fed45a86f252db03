"""Consolidation: what was said becomes facts and dated summaries, beside the chats and never in their way.
A model proposes, operations.py decides. One transaction moves the session's cursor and notes the change; then
the files are written: what is noted is brought in by whoever comes next, once."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanobot.errors import NanobotError, ProviderError, StorageError
from nanobot.memory.consolidation_table import ConsolidationTable, Unconsolidated
from nanobot.memory.facts import format_entry, plain_text
from nanobot.memory.files import MemoryFiles, hold, to_the_end
from nanobot.memory.operations import Plan, plan_reply
from nanobot.memory.transcript import Transcript, others_texts
from nanobot.memory.words import content_words
from nanobot.messages import Message
from nanobot.providers.base import Completion, ModelRequest, Provider
from nanobot.store.records import StoredMessage
from nanobot.store.store import Store

log = logging.getLogger(__name__)

_MOST_FAILURES = 3  # then the messages are summarised without a model
_RETRY = 300.0  # seconds before the second attempt; five times that before the third
_RANGE = 200  # messages of one model call
_RANGE_READ = 400  # messages that are read to find the end of a turn
_SEEN_BEFORE = 4  # windows: what a summary in the model's context may go back to
_RANGE_SIZE = 60_000  # characters of one model call; a single turn may be longer
_KNOWN_SIZE = 6_000  # characters of known facts that the model is shown


@dataclass(frozen=True, slots=True)
class Waiting:
    """How much is to be consolidated, how often that has failed, and the last error."""

    messages: int
    sessions: int
    failures: int
    error: str

    def __str__(self) -> str:
        if not self.messages:
            return "nothing waits to be consolidated"
        sessions = f"{self.sessions} session{'s' * (self.sessions != 1)}"
        error = f". Last error: {self.error}" if self.error else ""
        return f"{self.messages} messages of {sessions} wait to be consolidated{error}"


async def count_waiting(store: Store, window: int) -> Waiting:
    """Raises StorageError."""
    waiting = await ConsolidationTable(store.database).unconsolidated(window)
    return Waiting(
        sum(session.until - session.consolidated for session in waiting),
        len(waiting),
        sum(session.failures for session in waiting),
        next((session.error for session in waiting if session.error), ""),
    )


@dataclass(frozen=True)
class Consolidator:
    """Consolidates a store's sessions. `model_of` opens a session's model: its name and provider.
    `timeout` is in seconds for one range of messages; `max_tokens` limits the reply."""

    store: Store
    files: MemoryFiles
    model_of: Callable[[str], Awaitable[tuple[str, Provider]]]
    window: int
    timeout: float
    max_tokens: int = 8192
    clock: Callable[[], float] = time.time

    @property
    def _table(self) -> ConsolidationTable:
        return ConsolidationTable(self.store.database)

    async def run_owed(self, *, most: int = 1_000_000, retry_now: bool = False) -> int:
        """Consolidate what is owed, in at most `most` attempts; how many of them worked. Raises StorageError.
        Cancelling it changes nothing. A session that failed waits for its time, unless `retry_now`."""
        await self.finish_pending()
        done, failed = 0, set[str]()
        while done + len(failed) < most and await self._next(retry_now, failed):  # mostly none: no lock
            async with hold("consolidation"):
                session = await self._next(retry_now, failed)
                if session and await self._attempt(session):
                    done += 1
                elif session:
                    failed.add(session.session)
        return done

    async def _next(self, retry_now: bool, failed: Container[str]) -> Unconsolidated | None:
        for session in await self._table.unconsolidated(self.window):
            if session.session not in failed and (retry_now or session.retry_at <= self.clock()):
                return session
        return None

    async def _attempt(self, session: Unconsolidated) -> bool:
        """Consolidate the next messages of a session; False when that did not work this time."""
        transcript = await self._read(session)
        try:
            async with asyncio.timeout(self.timeout):
                plan = await self._ask(transcript)
        except StorageError:
            raise
        except (TimeoutError, NanobotError) as error:
            failure = plain_text(str(error)) or f"The model did not answer within {self.timeout:.0f} s."
            log.warning("The consolidation of %s failed: %s", session.session, failure)
            if session.failures + 1 < _MOST_FAILURES:
                retry_at = self.clock() + _RETRY * 5**session.failures
                await self._table.consolidation_failed(session.session, failure, retry_at)
                return False
            plan = _mechanical(transcript)
        last = transcript.messages[-1].seq
        committed = await self._table.commit_change(session, last, plan.to_json())
        await self.finish_pending()
        return committed

    async def finish_pending(self) -> None:
        """Bring committed changes into the files, also those of a process that was killed."""
        if await self._table.pending_changes():
            async with hold("memory"):
                for change in await self._table.pending_changes():
                    plan = Plan.from_json(change["body"])
                    await to_the_end(asyncio.to_thread(self.files.apply, plan, change["id"]))
                    await self._table.change_applied(change["id"])

    async def _read(self, session: Unconsolidated) -> Transcript:
        """The next messages to consolidate: whole turns, no more than one model call takes."""
        first = session.consolidated
        messages = await self.store.sessions.history(session.session, after=first, limit=_RANGE_READ)
        end = _range_end(messages, session.until)
        earlier, last = max(0, first - _SEEN_BEFORE * self.window), messages[end - 1].seq
        before = await self.store.sessions.history(session.session, after=earlier, limit=first - earlier)
        turns = await self._table.unattended_turns(session.session, earlier, last)
        read = any(entry.turn_id in turns or any(others_texts(entry.message)) for entry in before)
        return Transcript(session.session, session.is_group, messages[:end], turns, read)

    async def _ask(self, transcript: Transcript) -> Plan:
        model, provider = await self.model_of(transcript.session)
        if not transcript.users_words.strip() or not provider.traits(model).supports_tools:
            return _mechanical(transcript)  # nobody spoke, or a model that can only chat
        instructions = (Path(__file__).parent / "prompts" / "consolidate.md").read_text(encoding="utf-8")
        text = await asyncio.to_thread(self._question, transcript)
        request = ModelRequest(model, instructions, (Message.user(text),), (), self.max_tokens)
        answers = [event async for event in provider.stream(request) if isinstance(event, Completion)]
        ended = answers[0].finish_reason if answers else "nothing"
        if not answers or ended in ("length", "refusal"):
            raise ProviderError(f"The model gave no whole summary ({ended}); it is tried again later.")
        facts = await asyncio.to_thread(self.files.facts)  # as they are now: the owner may have edited them
        return await asyncio.to_thread(plan_reply, answers[0].message.text, instructions, transcript, facts)

    def _question(self, transcript: Transcript) -> str:
        """The facts most like what was said, as many as there is room for, and the conversation."""
        spoken = set(content_words(transcript.users_words))
        facts = [fact for fact in self.files.facts() if fact.origin.group == transcript.group]
        facts.sort(key=lambda fact: -len(spoken.intersection(content_words(fact.text))))
        sizes = itertools.accumulate(len(fact.text) + 24 for fact in facts)
        known = "\n".join(
            f"{fact.id}: {fact.text} ({fact.origin.day or 'no date'})"
            for fact, size in zip(facts, sizes, strict=True)
            if size <= _KNOWN_SIZE
        )
        text = f"Known facts:\n{known or '(none)'}\n\nConversation:\n{transcript.as_text()}"
        return text.encode("utf-8", "replace").decode()  # the owner's files may hold other bytes


def _range_end(messages: Sequence[StoredMessage], until: int) -> int:
    """How many of the messages make the next range: whole turns, the last one with `until` in it."""
    size, end = 0, 0
    for place, entry in enumerate(messages, 1):
        size += sum(len(getattr(part, "text", "")) for part in entry.message.parts)
        if end and (place > _RANGE or size > _RANGE_SIZE):
            break
        if place == len(messages) or messages[place].turn_id != entry.turn_id:
            end = place
            if entry.seq >= until:
                break
    return end


def _mechanical(transcript: Transcript) -> Plan:
    return Plan((format_entry(transcript.entry(transcript.digest())),))
