"""Turns: who may write to which, what they store, and how they end.

Nothing here assumes a single process: workers are identified, a turn belongs to the worker that claimed it,
and every write of a turn carries its claim, so a worker that lost its turn cannot write to it any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from nanobot.errors import StorageError, TurnTakenOver
from nanobot.messages import (
    INTERRUPTED,
    NOT_COUNTED,
    STOPPED,
    UNFINISHED,
    ContextPart,
    ContextUse,
    InboundMessage,
    Message,
    OutboundMessage,
    StopReason,
    ToolResult,
    unanswered_calls,
)
from nanobot.store import mail
from nanobot.store.records import Claim, InboxTurn, InterruptedTurn, Origin, SessionKind, StoredMessage
from nanobot.store.sessions import ensure_session, insert_message, read_history, running_turn
from nanobot.store.sqlite import Connection, Database, Row
from nanobot.store.workers import Workers

_TITLE = 60
_UNREADABLE = "The message of this turn cannot be read by this nanobot."
_STEERED = 20  # messages that join a turn at once


class Turns:
    """All methods raise StorageError when the disk or the database fails, TurnTakenOver on a lost claim."""

    def __init__(self, database: Database, workers: Workers) -> None:
        self._db = database
        self._workers = workers

    async def begin(self, key: str, family: int | None = None, kind: SessionKind = "chat") -> Claim | None:
        """Open a terminal's turn; None while another turn of the session runs.

        The turn shares the model calls of the turn `family`, which (by way of others) spawned it. `kind` is
        that of a session which this begins.
        """
        return await self._db.write(self._begin, key, family, kind, self._workers.enlist(), self._db.clock())

    async def claim_next(self, *, chats: bool = True, subagents: bool = True) -> InboxTurn | None:
        """The next turn to work on, or None: one whose worker is gone, else of the longest unserved lane.

        `chats` and `subagents` say which kinds of sessions there is room for.
        """
        me = self._workers.enlist()
        return await self._db.write(self._claim_next, me, _LANES[chats, subagents], self._db.clock())

    async def append(self, claim: Claim, *messages: Message) -> list[StoredMessage]:
        """Add messages to a running turn, all or none."""
        return await self._db.write(_append_all, claim, messages, self._db.clock())

    async def record_intent(self, claim: Claim, call_id: str) -> bool:
        """Note that a tool call is about to run; False when it was before, so that it may have run."""
        return await self._db.write(_record_intent, claim, call_id)

    async def take_steering(
        self, claim: Claim, to_message: Callable[[InboundMessage], Message | None]
    ) -> list[StoredMessage]:
        """Add the session's waiting messages to its running turn, until `to_message` declines one."""
        return await self._db.write(_take_steering, claim, to_message, self._db.clock())

    async def finish(
        self,
        claim: Claim,
        reason: StopReason,
        error: str = "",
        outbound: Sequence[OutboundMessage] = (),
        used: ContextUse = NOT_COUNTED,
        *,
        said: Message | None = None,
        inbound: InboundMessage | None = None,
        tokens: int = 0,
    ) -> None:
        """Add what was `said` last, close the turn, acknowledge its messages, queue its replies, accept
        `inbound`: one transaction. A turn that did not come to its end says so in the history.
        """
        now = self._db.clock()
        await self._db.write(_finish, claim, reason, error, outbound, used, said, inbound, tokens, now)

    async def reserve_call(
        self, claim: Claim, family: int, own: int, together: int, *, first_is_free: bool = False
    ) -> bool:
        """Allow one more model call; False after `own` of the turn, or `together` of the whole family.

        The reservation ends when the answer is recorded, or the turn ends.
        """
        return await self._db.write(_reserve_call, claim, family, own, together, first_is_free)

    async def family_spent(self, family: int) -> tuple[int, float]:
        """Model calls of a turn and all that share them, and when it began (Unix seconds)."""
        return await self._db.read(_family_spent, family)

    async def last_interrupted(self, key: str) -> InterruptedTurn | None:
        """The session's newest turn, when its terminal went away in the middle of it."""
        return await self._db.write(self._last_interrupted, key, self._db.clock())

    # -- inside a transaction

    def _begin(
        self,
        connection: Connection,
        key: str,
        family: int | None,
        kind: SessionKind,
        me: int,
        now: float,
    ) -> Claim | None:
        connection.hold(key)
        running = running_turn(connection, key)
        if running is not None:
            if self._workers.is_alive(running["worker"]):
                return None
            if running["origin"] == "inbox":
                raise StorageError(
                    f"The session {key} has an unfinished message that only the gateway can continue. "
                    "Run `nanobot gateway`, or talk in another session with -s NAME."
                )
            interrupt(connection, running, now)
        ensure_session(connection, key, now, kind)
        return _open(connection, key, "terminal", me, now, family)

    def _claim_next(self, connection: Connection, me: int, lanes: str, now: float) -> InboxTurn | None:
        self._interrupt_dead_terminals(connection, now)
        return self._take_over(connection, me, lanes, now) or _claim_waiting(connection, me, lanes, now)

    def _interrupt_dead_terminals(self, connection: Connection, now: float) -> None:
        rows = connection.execute("SELECT * FROM turns WHERE state = 'running' AND origin = 'terminal'")
        for turn in rows.fetchall():
            if not self._workers.is_alive(turn["worker"]):
                interrupt(connection, turn, now)
                mail.release_lane(connection, turn["session"])

    def _take_over(self, connection: Connection, me: int, lanes: str, now: float) -> InboxTurn | None:
        rows = connection.execute(
            "SELECT * FROM turns WHERE state = 'running' AND origin = 'inbox' AND worker <> ?"
            f" AND {lanes} ORDER BY id",
            (me,),
        )
        for turn in rows.fetchall():
            if not self._workers.is_alive(turn["worker"]):
                claim = _claim(
                    connection.execute(
                        "UPDATE turns SET worker = ?, epoch = epoch + 1 WHERE id = ? RETURNING *",
                        (me, turn["id"]),
                    ).fetchone()
                )
                if _is_cancelled(connection, turn["session"]):  # its worker died before it could stop
                    _finish(connection, claim, "cancelled", "", (), NOT_COUNTED, None, None, 0, now)
                    continue
                inbound = mail.unanswered(connection, turn["session"], turn["id"])
                if inbound is not None:
                    return InboxTurn(claim, inbound, True, _is_subagent(connection, turn["session"]))
                _finish(connection, claim, "error", _UNREADABLE, (), NOT_COUNTED, None, None, 0, now)
        return None

    def _last_interrupted(self, connection: Connection, key: str, now: float) -> InterruptedTurn | None:
        connection.hold(key)
        running = running_turn(connection, key)
        if running is not None and running["origin"] == "terminal":
            if self._workers.is_alive(running["worker"]):
                return None
            interrupt(connection, running, now)
            mail.release_lane(connection, key)
        return _last_interrupted(connection, key)


# The lanes a worker has room for: (chats, subagents).
_KIND = "(SELECT kind FROM sessions WHERE key = session)"
_LANES = {
    (True, True): "1 = 1",
    (True, False): f"{_KIND} <> 'subagent'",
    (False, True): f"{_KIND} = 'subagent'",
}


def _is_subagent(connection: Connection, session: str) -> bool:
    row = connection.execute("SELECT kind FROM sessions WHERE key = ?", (session,)).fetchone()
    return bool(row["kind"] == "subagent")


def _claim_waiting(connection: Connection, me: int, lanes: str, now: float) -> InboxTurn | None:
    row = connection.execute(
        f"SELECT session FROM waiting WHERE {lanes} AND NOT EXISTS"
        " (SELECT 1 FROM turns WHERE turns.session = waiting.session AND state = 'running')"
        " ORDER BY served, since LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    session = row["session"]
    connection.execute("DELETE FROM waiting WHERE session = ?", (session,))
    head = mail.pending(connection, session, 1)
    if not head:
        return None
    inbox_id, inbound = head[0]
    claim = _open(connection, session, "inbox", me, now, inbound.family)
    _claim_message(connection, inbox_id, claim)
    return InboxTurn(claim, inbound, False, _is_subagent(connection, session))


def _claim_message(connection: Connection, inbox_id: int, claim: Claim) -> None:
    connection.execute("UPDATE inbox SET state = 'claimed', turn = ? WHERE id = ?", (claim.turn_id, inbox_id))


def _open(
    connection: Connection, key: str, origin: Origin, worker: int, now: float, family: int | None
) -> Claim:
    """Begin a turn in a lane that is free, of a session that exists."""
    row = connection.execute(
        "INSERT INTO turns (name, session, origin, state, worker, first_seq, started_at, family)"
        " SELECT ?, key, ?, 'running', ?, last_seq + 1, ?, ? FROM sessions WHERE key = ? RETURNING *",
        (secrets.token_hex(8), origin, worker, now, family, key),
    ).fetchone()
    return _claim(row)


def _claim(turn: Row) -> Claim:
    return Claim(turn["id"], turn["session"], turn["epoch"], turn["name"])


def _check(connection: Connection, claim: Claim) -> Row:
    """The turn's row, when the claim still holds."""
    connection.hold(claim.session_key)
    row: Row | None = connection.execute(
        "SELECT * FROM turns WHERE id = ? AND epoch = ? AND state = 'running'", (claim.turn_id, claim.epoch)
    ).fetchone()
    if row is None:
        raise TurnTakenOver("Another nanobot has taken over this turn; this one stops here.")
    return row


def _append_all(
    connection: Connection, claim: Claim, messages: Sequence[Message], now: float
) -> list[StoredMessage]:
    _check(connection, claim)
    return [_append(connection, claim, message, now) for message in messages]


def _append(connection: Connection, claim: Claim, message: Message, now: float) -> StoredMessage:
    title = " ".join(message.text.split())[:_TITLE] if message.role == "user" else ""
    row = connection.execute(
        "UPDATE sessions SET last_seq = last_seq + 1, updated_at = ?,"
        " title = CASE WHEN title = '' THEN ? ELSE title END WHERE key = ? RETURNING last_seq",
        (now, title, claim.session_key),
    ).fetchone()
    stored = StoredMessage(row["last_seq"], claim.turn_id, now, message)
    insert_message(connection, claim.session_key, stored)
    if message.role == "assistant":
        connection.execute("UPDATE turns SET calls = calls + 1, calling = 0 WHERE id = ?", (claim.turn_id,))
    return stored


def _record_intent(connection: Connection, claim: Claim, call_id: str) -> bool:
    _check(connection, claim)
    new = connection.execute(
        "INSERT INTO intents (turn, call_id) VALUES (?, ?) ON CONFLICT (turn, call_id) DO NOTHING",
        (claim.turn_id, call_id),
    )
    return new.rowcount > 0


def _take_steering(
    connection: Connection, claim: Claim, to_message: Callable[[InboundMessage], Message | None], now: float
) -> list[StoredMessage]:
    _check(connection, claim)
    taken = []
    for inbox_id, inbound in mail.pending(connection, claim.session_key, _STEERED):
        message = to_message(inbound)
        if message is None:
            break
        _claim_message(connection, inbox_id, claim)
        taken.append(_append(connection, claim, message, now))
    return taken


def close(
    connection: Connection, claim: Claim, state: str, error: str, now: float, said: Message | None = None
) -> None:
    """End a turn, leaving a valid history: a call without a result gets one, a turn without an end a note."""
    first = _check(connection, claim)["first_seq"]
    stored = read_history(connection, claim.session_key, first - 1, None)
    for call in unanswered_calls([entry.message for entry in stored]):
        result = ToolResult(call.id, call.name, INTERRUPTED, "interrupted")
        if state in ("cancelled", "limit"):
            result = ToolResult(call.id, call.name, STOPPED, "cancelled")
        _append(connection, claim, Message("tool", (result,)), now)
    if said is not None:
        _append(connection, claim, said, now)
    if stored and state in UNFINISHED:
        _append(connection, claim, Message("user", (ContextPart(UNFINISHED[state]),)), now)
    connection.execute(
        "UPDATE turns SET state = ?, finished_at = ?, error = ?, calling = 0 WHERE id = ?",
        (state, now, error, claim.turn_id),
    )
    connection.execute("DELETE FROM intents WHERE turn = ?", (claim.turn_id,))


def interrupt(connection: Connection, turn: Row, now: float) -> None:
    """Close a turn whose terminal is gone."""
    close(connection, _claim(turn), "interrupted", "", now)


def _finish(
    connection: Connection,
    claim: Claim,
    state: str,
    error: str,
    outbound: Sequence[OutboundMessage],
    used: ContextUse,
    said: Message | None,
    inbound: InboundMessage | None,
    tokens: int,
    now: float,
) -> None:
    """All or nothing; the lane is free then."""
    connection.hold(claim.session_key, *([inbound.session_key] if inbound else []))
    close(connection, claim, state, error, now, said)
    if used.tokens:
        connection.execute(
            "UPDATE sessions SET context_tokens = ?, context_estimate = ? WHERE key = ?",
            (used.tokens, used.estimated, claim.session_key),
        )
    connection.execute("UPDATE turns SET tokens = ? WHERE id = ?", (tokens, claim.turn_id))
    connection.execute(
        "UPDATE inbox SET state = 'done' WHERE turn = ? AND state = 'claimed'", (claim.turn_id,)
    )
    for message in outbound:
        mail.enqueue(connection, message, claim.turn_id, now)
    open_until_now = _end_subagent(connection, claim.session_key, state)
    if inbound is not None and open_until_now:
        mail.accept(connection, inbound, now)
    mail.release_lane(connection, claim.session_key)


def _is_cancelled(connection: Connection, session: str) -> bool:
    """Whether this is the session of a subagent that was to be stopped."""
    row = connection.execute(
        "SELECT 1 FROM subagents WHERE id = ? AND ended = 'cancelled'", (session.removeprefix("subagent:"),)
    ).fetchone()
    return row is not None


def _end_subagent(connection: Connection, session: str, state: str) -> bool:
    """Note how the subagent of this session ended; False when it was cancelled before."""
    ended = connection.execute(
        "UPDATE subagents SET ended = ? WHERE id = ? AND worker IS NULL AND ended = ''",
        (state, session.removeprefix("subagent:")),
    )
    return ended.rowcount > 0


def _reserve_call(
    connection: Connection, claim: Claim, family: int, own: int, together: int, first_is_free: bool
) -> bool:
    connection.hold(claim.session_key, f"family:{family}")
    calls = _check(connection, claim)["calls"]
    connection.execute("UPDATE turns SET calling = 0 WHERE id = ?", (claim.turn_id,))
    is_free = first_is_free and not calls
    if not is_free and (calls >= own or _family_spent(connection, family)[0] >= together):
        return False
    connection.execute("UPDATE turns SET calling = 1 WHERE id = ?", (claim.turn_id,))
    return True


def _family_spent(connection: Connection, family: int) -> tuple[int, float]:
    first = connection.execute(
        "SELECT calls + calling AS calls, started_at FROM turns WHERE id = ?", (family,)
    ).fetchone()
    others = connection.execute(
        "SELECT COALESCE(SUM(calls + calling), 0) AS calls FROM turns WHERE family = ?", (family,)
    ).fetchone()
    return first["calls"] + others["calls"], first["started_at"]


def _last_interrupted(connection: Connection, key: str) -> InterruptedTurn | None:
    row = connection.execute(
        "SELECT * FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1", (key,)
    ).fetchone()
    if row is None or row["state"] != "interrupted":
        return None
    messages = read_history(connection, key, row["first_seq"] - 1, 1)
    text = messages[0].message.text if messages else "(that was lost)"
    return InterruptedTurn(row["id"], text if row["family"] is None else "")
