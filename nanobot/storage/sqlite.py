"""The embedded Store: SQLite in `$NANOBOT_HOME/nanobot.db`. See store.py for what each method promises."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from nanobot.errors import StorageError
from nanobot.messages import NOT_COUNTED, ContextUse, InboundMessage, Message, OutboundMessage, StopReason
from nanobot.session.memory_log import MemoryChange, Unconsolidated
from nanobot.session.store import (
    Backlog,
    Claim,
    Delivery,
    ImportedSession,
    InboxTurn,
    InterruptedTurn,
    Job,
    LoggedMessage,
    OutboxEntry,
    SessionInfo,
    SessionKind,
    StoredMessage,
    SubagentInfo,
    Window,
)
from nanobot.storage import conversations, forgetting, imports, mailbox, memory_log, schedules, subagents
from nanobot.storage.database import Database
from nanobot.storage.forgetting import Matches
from nanobot.storage.migrations import MIGRATIONS
from nanobot.storage.workers import WorkerIdentity


class SqliteStore:
    """One database file; `clock` gives Unix seconds. The file is created by the first call."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._db = Database(path, MIGRATIONS)
        self._worker = WorkerIdentity(path.parent / "run")
        self._clock = clock

    # -- sessions

    async def sessions(self, limit: int = 50) -> list[SessionInfo]:
        return await self._db.read(conversations.list_sessions, limit)

    async def session(self, key: str) -> SessionInfo | None:
        return await self._db.read(conversations.get_session, key)

    async def history(self, key: str, *, after: int = 0, limit: int | None = None) -> list[StoredMessage]:
        return await self._db.read(conversations.read_history, key, after, limit)

    async def context(self, key: str, limit: int) -> list[StoredMessage]:
        return await self._db.read(conversations.read_context, key, limit)

    async def log(self, first: int, limit: int) -> list[LoggedMessage]:
        return await self._db.read(conversations.read_log, first, limit)

    async def start_over(self, key: str) -> None:
        await self._db.write(conversations.start_over, key)

    async def window(self, key: str) -> Window:
        return await self._db.read(conversations.read_window, key)

    async def move_window(self, key: str, before: Window, after: Window) -> bool:
        return await self._db.write(conversations.move_window, key, before, after)

    async def rename(self, key: str, title: str) -> bool:
        return await self._db.write(conversations.rename, key, title)

    async def import_session(self, session: ImportedSession, name: str) -> str:
        return await self._db.write(imports.import_session, session, name, self._clock())

    async def imported(self, names: Sequence[str]) -> frozenset[str]:
        return await self._db.read(imports.imported, names)

    async def settings(self, key: str) -> dict[str, str]:
        return await self._db.read(conversations.read_settings, key)

    async def set_setting(self, key: str, name: str, value: str) -> None:
        await self._db.write(conversations.set_setting, key, name, value, self._clock())

    # -- turns

    async def begin_turn(
        self, key: str, family: int | None = None, kind: SessionKind = "chat"
    ) -> Claim | None:
        return await self._db.write(self._begin_turn, key, family, kind)

    def _begin_turn(
        self, connection: sqlite3.Connection, key: str, family: int | None, kind: SessionKind
    ) -> Claim | None:
        now = self._clock()
        worker = self._worker.register(connection, now)
        running = conversations.running_turn(connection, key)
        if running is not None:
            if self._worker.is_alive(connection, running["worker"], now):
                return None
            if running["origin"] == "inbox":
                raise StorageError(
                    f"The session {key} has an unfinished message that only the gateway can continue. "
                    "Run `nanobot gateway`, or talk in another session with -s NAME."
                )
            conversations.interrupt_turn(connection, running, now)
        conversations.ensure_session(connection, key, now, kind)
        return conversations.open_turn(connection, key, "terminal", worker, now, family)

    async def append(self, claim: Claim, *messages: Message) -> list[StoredMessage]:
        return await self._db.write(conversations.append_all, claim, messages, self._clock())

    async def record_intent(self, claim: Claim, call_id: str) -> None:
        await self._db.write(conversations.record_intent, claim, call_id)

    async def intents(self, claim: Claim) -> frozenset[str]:
        return await self._db.read(conversations.read_intents, claim)

    async def finish_turn(
        self,
        claim: Claim,
        reason: StopReason,
        error: str = "",
        outbound: Sequence[OutboundMessage] = (),
        used: ContextUse = NOT_COUNTED,
        *,
        inbound: InboundMessage | None = None,
        tokens: int = 0,
    ) -> None:
        now = self._clock()
        await self._db.write(mailbox.finish_turn, claim, reason, error, outbound, used, inbound, tokens, now)

    async def reserve_call(
        self, claim: Claim, family: int, own: int, together: int, *, first_is_free: bool = False
    ) -> bool:
        return await self._db.write(
            subagents.reserve_call, claim, family, own, together, first_is_free=first_is_free
        )

    async def family_spent(self, family: int) -> tuple[int, float]:
        return await self._db.read(subagents.family_spent, family)

    async def last_interrupted(self, key: str) -> InterruptedTurn | None:
        return await self._db.write(self._last_interrupted, key)

    def _last_interrupted(self, connection: sqlite3.Connection, key: str) -> InterruptedTurn | None:
        now = self._clock()
        running = conversations.running_turn(connection, key)
        if running is not None and running["origin"] == "terminal":
            if self._worker.is_alive(connection, running["worker"], now):
                return None
            conversations.interrupt_turn(connection, running, now)
            mailbox.release_lane(connection, key)
        return conversations.last_interrupted(connection, key)

    async def renew_worker(self) -> None:
        """Give a sign of life; call it every `workers.RENEW` seconds while a turn runs."""
        await self._db.write(self._worker.renew, self._clock())

    async def lead(self, role: str) -> bool:
        return await self._db.write(self._lead, role)

    def _lead(self, connection: sqlite3.Connection, role: str) -> bool:
        return self._worker.lead(connection, role, self._clock())

    async def resign(self, role: str) -> None:
        try:
            await self._db.write(self._worker.resign, role)
        finally:
            self._worker.release()

    async def leader(self, role: str) -> int | None:
        return await self._db.read(self._leader, role)

    def _leader(self, connection: sqlite3.Connection, role: str) -> int | None:
        row = connection.execute(
            "SELECT id, pid FROM leaders JOIN workers ON id = worker WHERE role = ?", (role,)
        ).fetchone()
        alive = row is not None and self._worker.is_alive(connection, row["id"], self._clock())
        return int(row["pid"]) if alive else None

    async def version(self) -> int:
        return await self._db.read(_data_version)

    # -- memory

    async def unconsolidated(self, window: int, key: str = "") -> list[Unconsolidated]:
        return await self._db.read(memory_log.read_unconsolidated, window, key)

    async def unattended_turns(self, key: str, after: int, until: int) -> frozenset[int]:
        return await self._db.read(memory_log.read_unattended, key, after, until)

    async def commit_change(self, session: Unconsolidated, until: int, body: str) -> bool:
        return await self._db.write(memory_log.commit_change, session, until, body, self._clock())

    async def pending_changes(self) -> list[MemoryChange]:
        return await self._db.read(memory_log.read_pending)

    async def change_applied(self, change_id: int) -> None:
        await self._db.write(memory_log.change_applied, change_id)

    async def changes_of(self, key: str, first: int, last: int) -> list[MemoryChange]:
        return await self._db.read(memory_log.read_changes, key, first, last)

    async def consolidation_failed(self, key: str, error: str, retry_at: float) -> None:
        await self._db.write(memory_log.consolidation_failed, key, error, retry_at)

    async def messages_like(self, matches: Matches, only: str = "") -> list[tuple[str, StoredMessage]]:
        return await self._db.read(forgetting.messages_like, matches, only)

    async def redact(
        self, matches: Matches, messages: Collection[tuple[str, int]] = (), only: str = ""
    ) -> list[tuple[str, int]]:
        return await self._db.write(forgetting.redact, matches, messages, only, self._clock())

    async def scrub(self) -> None:
        await self._db.scrub()

    # -- inbox and outbox

    async def accept(self, inbound: InboundMessage) -> bool:
        return await self._db.write(mailbox.accept, inbound, self._clock())

    async def claim_next(self, *, chats: bool = True, subagents: bool = True) -> InboxTurn | None:
        return await self._db.write(mailbox.claim_next, self._worker, self._clock(), chats, subagents)

    async def take_steering(
        self, claim: Claim, to_message: Callable[[InboundMessage], Message | None]
    ) -> list[StoredMessage]:
        return await self._db.write(mailbox.take_steering, claim, to_message, self._clock())

    async def enqueue(self, message: OutboundMessage) -> bool:
        return await self._db.write(mailbox.enqueue, message, self._clock())

    async def sent_in_turn(self, turn_id: int, channel: str, chat_id: str) -> bool:
        return await self._db.read(mailbox.sent_in_turn, turn_id, channel, chat_id)

    async def knows_chat(self, channel: str, chat_id: str) -> bool:
        return await self._db.read(mailbox.knows_chat, channel, chat_id)

    async def latest_chat(self, channels: Sequence[str]) -> tuple[str, str] | None:
        return await self._db.read(mailbox.latest_chat, channels)

    async def due_deliveries(self, limit: int = 32) -> list[Delivery]:
        due, unreadable = await self._db.read(mailbox.due_deliveries, self._clock(), limit)
        for outbox_id in unreadable:
            await self.delivery_failed(outbox_id, "This message cannot be read by this nanobot.", None)
        return due

    async def delivered(self, outbox_id: int, receipt: str) -> None:
        await self._db.write(mailbox.delivered, outbox_id, receipt)

    async def delivery_failed(self, outbox_id: int, error: str, next_at: float | None) -> None:
        await self._db.write(mailbox.delivery_failed, outbox_id, error, next_at)

    async def outbox(self, limit: int = 100) -> list[OutboxEntry]:
        return await self._db.read(mailbox.outbox_entries, limit)

    async def backlog(self) -> Backlog:
        return await self._db.read(mailbox.read_backlog)

    async def retry_parked(self) -> int:
        return await self._db.write(mailbox.retry_parked, self._clock())

    # -- subagents

    async def add_subagent(
        self, order: InboundMessage, label: str, profile: str, *, in_terminal: bool
    ) -> bool:
        return await self._db.write(self._add_subagent, order, label, profile, in_terminal)

    def _add_subagent(
        self,
        connection: sqlite3.Connection,
        order: InboundMessage,
        label: str,
        profile: str,
        in_terminal: bool,
    ) -> bool:
        now = self._clock()
        worker = self._worker.register(connection, now) if in_terminal else None
        return subagents.add(connection, order, label, profile, worker, now)

    async def subagent(self, subagent_id: str) -> SubagentInfo | None:
        return await self._db.read(subagents.get, self._worker, subagent_id, self._clock())

    async def subagents(self, parent: str, limit: int = 20) -> list[SubagentInfo]:
        return await self._db.read(subagents.listed, self._worker, parent, limit, self._clock())

    async def cancel_subagents(
        self,
        parent: str,
        ids: Collection[str] | None,
        report: Callable[[InboundMessage, str], InboundMessage] | None = None,
    ) -> list[str]:
        return await self._db.write(
            subagents.cancel, self._worker, parent, ids, report or _no_report, self._clock()
        )

    async def lost_subagents(self, parent: str) -> list[SubagentInfo]:
        return await self._db.write(subagents.close_lost, self._worker, parent, self._clock())

    async def settle_subagents(self, ids: Collection[str]) -> None:
        await self._db.write(subagents.settle, ids)

    # -- schedules

    async def jobs(self) -> list[Job]:
        return await self._db.read(schedules.list_jobs)

    async def add_jobs(self, jobs: Sequence[Job], imported: str = "") -> bool:
        return await self._db.write(schedules.add_jobs, jobs, imported, self._clock())

    async def remove_job(self, job_id: str) -> bool:
        return await self._db.write(schedules.remove_job, job_id)

    async def advance_job(
        self, job: Job, next_at: float | None, missed: Sequence[float] = (), due: InboundMessage | None = None
    ) -> bool:
        return await self._db.write(schedules.advance_job, job, next_at, missed, due, self._clock())

    async def accept_tick(self, inbound: InboundMessage, slot: float) -> bool:
        return await self._db.write(schedules.accept_tick, inbound, slot, self._clock())

    async def aclose(self) -> None:
        await self._db.aclose()
        self._worker.release()


def _no_report(order: InboundMessage, label: str) -> None:
    return None


def _data_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA data_version").fetchone()[0])
