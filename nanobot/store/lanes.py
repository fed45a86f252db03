"""Lanes: which accepted message becomes a turn next, and who works on it.

A session is a lane: one turn at a time. What belongs to no process waits in the order of its session, and any
worker may begin it, or go on with it when its worker is gone. What a process has submitted for itself is its
own alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from nanobot.messages import NOT_COUNTED, InboundMessage, Message
from nanobot.store import mail
from nanobot.store.records import BlockedMessage, Claim, InboxTurn, InterruptedTurn, SessionKind, TurnOrigin
from nanobot.store.sessions import read_history, running_turn
from nanobot.store.sqlite import Connection, Database
from nanobot.store.turns import append, claim_message, claim_of, close, finish, interrupt
from nanobot.store.workers import Workers

_UNREADABLE = "The message of this turn cannot be read by this nanobot."


class Lanes:
    """All methods raise StorageError when the disk or the database fails."""

    def __init__(self, database: Database, workers: Workers) -> None:
        self._db = database
        self._workers = workers

    async def claim(self, owner: str = "", chats: int = 1, subagents: int = 1) -> list[InboxTurn]:
        """The next turns to work on, at most so many of chats and of subagents.

        Those whose worker is gone come first, then those of the longest unserved lanes. An `owner` gets what
        it has submitted, in that order, and nothing else.
        """
        room = {"subagent": subagents, "chat": chats}
        return await self._db.write(self._claim, owner, room, self._workers.enlist(), self._db.clock())

    async def blocked(self, owner: str) -> BlockedMessage | None:
        """The owner's first message that waits; given up when only a gateway could free its lane."""
        return await self._db.write(self._blocked, owner, self._db.clock())

    async def last_interrupted(self, key: str) -> InterruptedTurn | None:
        """The session's newest turn, when its terminal went away in the middle of it."""
        return await self._db.write(self._last_interrupted, key, self._db.clock())

    # -- inside a transaction

    def _claim(
        self, connection: Connection, owner: str, places: Mapping[str, int], me: int, now: float
    ) -> list[InboxTurn]:
        room = {**places}
        self._interrupt_dead_terminals(connection, now)
        if owner:
            return _claim_owned(connection, owner, me, room, now)
        return self._take_over(connection, me, room, now) + _claim_waiting(connection, me, room, now)

    def _blocked(self, connection: Connection, owner: str, now: float) -> BlockedMessage | None:
        row = connection.execute(f"{_OWNED} ORDER BY inbox.id LIMIT 1", (owner,)).fetchone()
        if row is None:
            return None
        connection.hold(row["session"])
        inbound = mail.readable(connection, row)
        if inbound is None:
            return None
        running = running_turn(connection, row["session"])
        given_up = (
            running is not None
            and running["origin"] == "inbox"
            and not self._workers.is_alive(running["worker"])
        )
        if given_up:
            connection.execute(
                "UPDATE inbox SET state = 'done' WHERE id = ? AND state = 'pending'", (row["id"],)
            )
        return BlockedMessage(inbound, given_up)

    def _interrupt_dead_terminals(self, connection: Connection, now: float) -> None:
        rows = connection.execute("SELECT * FROM turns WHERE state = 'running' AND origin = 'terminal'")
        for turn in rows.fetchall():
            if not self._workers.is_alive(turn["worker"]):
                close_dead(connection, self._workers, turn["session"], now)

    def _take_over(
        self, connection: Connection, me: int, room: dict[str, int], now: float
    ) -> list[InboxTurn]:
        taken = []
        rows = connection.execute(
            "SELECT turns.*, kind FROM turns JOIN sessions ON key = session"
            " WHERE state = 'running' AND origin = 'inbox' AND worker <> ? ORDER BY id",
            (me,),
        )
        for turn in rows.fetchall():
            lane = _lane(turn["kind"])
            if room[lane] > 0 and not self._workers.is_alive(turn["worker"]):
                connection.hold(turn["session"])
                mine = connection.execute(
                    "UPDATE turns SET worker = ?, epoch = epoch + 1"
                    " WHERE id = ? AND epoch = ? AND state = 'running' RETURNING *",
                    (me, turn["id"], turn["epoch"]),
                ).fetchone()
                if mine is None:  # somebody was faster
                    continue
                claim = claim_of(mine)
                if _is_cancelled(connection, turn["session"]):  # its worker died before it could stop
                    finish(connection, claim, "cancelled", "", (), NOT_COUNTED, None, None, 0, now)
                    continue
                inbound = mail.claimed(connection, turn["id"])
                if inbound is None:
                    finish(connection, claim, "error", _UNREADABLE, (), NOT_COUNTED, None, None, 0, now)
                else:
                    room[lane] -= 1
                    taken.append(InboxTurn(claim, inbound, True, lane == "subagent"))
        return taken

    def _last_interrupted(self, connection: Connection, key: str, now: float) -> InterruptedTurn | None:
        close_dead(connection, self._workers, key, now)
        row = connection.execute(
            "SELECT * FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1", (key,)
        ).fetchone()
        if row is None or row["state"] != "interrupted":
            return None
        messages = read_history(connection, key, row["first_seq"] - 1, 1)
        text = messages[0].message.text if messages else "(that was lost)"
        return InterruptedTurn(row["id"], text if row["family"] is None else "")


# The messages of an owner that wait, with the kind of their sessions.
_OWNED = (
    "SELECT inbox.*, kind FROM inbox JOIN sessions ON key = session"
    " WHERE owner = ? AND owner <> '' AND state = 'pending'"  # as the index says
)
_FREE = "NOT EXISTS (SELECT 1 FROM turns WHERE turns.session = {}.session AND state = 'running')"


def _lane(kind: SessionKind) -> str:
    return "subagent" if kind == "subagent" else "chat"


def _claim_waiting(connection: Connection, me: int, room: Mapping[str, int], now: float) -> list[InboxTurn]:
    taken = []
    for lane, sign in (("chat", "<>"), ("subagent", "=")):
        rows = connection.execute(
            f"SELECT session FROM waiting JOIN sessions ON key = session WHERE kind {sign} 'subagent'"
            f" AND {_FREE.format('waiting')} ORDER BY served, since LIMIT ?",
            (room[lane],),
        )
        for row in rows.fetchall():
            connection.hold(row["session"])
            mine = connection.execute("DELETE FROM waiting WHERE session = ?", (row["session"],)).rowcount
            if not mine or running_turn(connection, row["session"]):  # somebody was faster
                continue
            for inbox_id, inbound in mail.pending(connection, row["session"], "", 1):
                taken.append(_begin(connection, inbox_id, inbound, me, lane, now))
    return taken


def _claim_owned(
    connection: Connection, owner: str, me: int, room: dict[str, int], now: float
) -> list[InboxTurn]:
    taken: dict[str, InboxTurn] = {}
    rows = connection.execute(f"{_OWNED} AND {_FREE.format('inbox')} ORDER BY inbox.id", (owner,))
    for row in rows.fetchall():
        lane, session = _lane(row["kind"]), row["session"]
        if session in taken or room[lane] <= 0:
            continue
        connection.hold(session)
        inbound = mail.readable(connection, row)
        if inbound is not None and running_turn(connection, session) is None:
            taken[session] = _begin(connection, row["id"], inbound, me, lane, now)
            room[lane] -= 1
    return [*taken.values()]


def _begin(
    connection: Connection, inbox_id: int, inbound: InboundMessage, me: int, lane: str, now: float
) -> InboxTurn:
    origin: TurnOrigin = "terminal" if inbound.owner else "inbox"
    claim = _open(connection, inbound.session_key, origin, me, now, inbound.family)
    claim_message(connection, inbox_id, claim)
    return InboxTurn(claim, inbound, False, lane == "subagent")


def close_dead(connection: Connection, workers: Workers, key: str, now: float) -> None:
    """End what a process that is gone has left in a session; what a person had asked, as interrupted."""
    connection.hold(key)
    running = running_turn(connection, key)
    if running is not None and running["origin"] == "terminal":
        if workers.is_alive(running["worker"]):
            return
        interrupt(connection, running, now)
    rows = connection.execute(
        "SELECT * FROM inbox WHERE session = ? AND state = 'pending' AND owner <> '' ORDER BY id", (key,)
    )
    for row in rows.fetchall():
        inbound = None if workers.is_alive(int(row["owner"])) else mail.readable(connection, row)
        if inbound is not None:
            connection.execute("UPDATE inbox SET state = 'done' WHERE id = ?", (row["id"],))
            if inbound.source == "person":
                claim = _open(connection, key, "terminal", 0, now, None)
                append(connection, claim, Message.user(inbound.text), now)
                close(connection, claim, "interrupted", "", now)
    mail.release_lane(connection, key)


def _open(
    connection: Connection, key: str, origin: TurnOrigin, worker: int, now: float, family: int | None
) -> Claim:
    """Begin a turn in a lane that is free, of a session that exists."""
    row = connection.execute(
        "INSERT INTO turns (name, session, origin, state, worker, first_seq, started_at, family)"
        " SELECT ?, key, ?, 'running', ?, last_seq + 1, ?, ? FROM sessions WHERE key = ? RETURNING *",
        (secrets.token_hex(8), origin, worker, now, family, key),
    ).fetchone()
    return claim_of(row)


def _is_cancelled(connection: Connection, session: str) -> bool:
    """Whether this is the session of a subagent that was to be stopped."""
    row = connection.execute(
        "SELECT 1 FROM subagents WHERE id = ? AND ended = 'cancelled'", (session.removeprefix("subagent:"),)
    ).fetchone()
    return row is not None
