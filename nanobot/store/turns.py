"""Turns: who may write to which, what they store, and how they end.

Nothing here assumes a single process: workers are identified, a turn belongs to the worker that claimed it,
and every write of a turn carries its claim, so a worker that lost its turn cannot write to it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanobot.errors import TurnTakenOver
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
from nanobot.store.records import Claim, StoredMessage
from nanobot.store.sessions import insert_message, read_history
from nanobot.store.sqlite import Connection, Database, Row

_TITLE = 60


class Turns:
    """All methods raise StorageError when the disk or the database fails, TurnTakenOver on a lost claim."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def append(self, claim: Claim, *messages: Message) -> list[StoredMessage]:
        """Add messages to a running turn, all or none."""
        return await self._db.write(_append_all, claim, messages, self._db.clock())

    async def record_intent(self, claim: Claim, call_id: str) -> bool:
        """Note that a tool call is about to run; False when it was before, so that it may have run."""
        return await self._db.write(_record_intent, claim, call_id)

    async def steer(self, claim: Claim, messages: Mapping[int, Message]) -> list[StoredMessage]:
        """Add what still waits to a running turn: ids of the inbox, and what the model is shown of each."""
        return await self._db.write(_steer, claim, messages, self._db.clock())

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
        await self._db.write(finish, claim, reason, error, outbound, used, said, inbound, tokens, now)

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


def claim_message(connection: Connection, inbox_id: int, claim: Claim) -> None:
    connection.execute("UPDATE inbox SET state = 'claimed', turn = ? WHERE id = ?", (claim.turn_id, inbox_id))


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
    return [append(connection, claim, message, now) for message in messages]


def append(connection: Connection, claim: Claim, message: Message, now: float) -> StoredMessage:
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


def _steer(
    connection: Connection, claim: Claim, messages: Mapping[int, Message], now: float
) -> list[StoredMessage]:
    _check(connection, claim)
    taken = []
    for inbox_id, message in messages.items():
        row = connection.execute("SELECT state FROM inbox WHERE id = ?", (inbox_id,)).fetchone()
        if row["state"] == "pending":
            claim_message(connection, inbox_id, claim)
            taken.append(append(connection, claim, message, now))
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
        append(connection, claim, Message("tool", (result,)), now)
    if said is not None:
        append(connection, claim, said, now)
    if stored and state in UNFINISHED:
        append(connection, claim, Message("user", (ContextPart(UNFINISHED[state]),)), now)
    connection.execute(
        "UPDATE turns SET state = ?, finished_at = ?, error = ?, calling = 0 WHERE id = ?",
        (state, now, error, claim.turn_id),
    )
    connection.execute("DELETE FROM intents WHERE turn = ?", (claim.turn_id,))


def interrupt(connection: Connection, turn: Row, now: float) -> None:
    """Close a turn whose terminal is gone."""
    close(connection, claim_of(turn), "interrupted", "", now)


def claim_of(turn: Row) -> Claim:
    return Claim(turn["id"], turn["session"], turn["epoch"], turn["name"])


def finish(
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
    _end_reported(connection, claim.turn_id)
    connection.execute(
        "UPDATE inbox SET state = 'done' WHERE turn = ? AND state = 'claimed'", (claim.turn_id,)
    )
    for message in outbound:
        mail.enqueue(connection, message, claim.turn_id, now)
    open_until_now = _end_subagent(connection, claim.session_key, state)
    if inbound is not None and open_until_now:
        mail.accept(connection, inbound, now)
    mail.release_lane(connection, claim.session_key)


def _end_subagent(connection: Connection, session: str, state: str) -> bool:
    """Note how the subagent of this session ended; False when it was cancelled before."""
    subagent = session.removeprefix("subagent:")
    row = connection.execute("SELECT worker, ended FROM subagents WHERE id = ?", (subagent,)).fetchone()
    if row is None or row["ended"]:
        return False
    if row["worker"] is None:  # one of a terminal has ended when its session was told
        connection.execute("UPDATE subagents SET ended = ? WHERE id = ?", (state, subagent))
    return True


def _end_reported(connection: Connection, turn: int) -> None:
    """Note that a turn has told how the subagents of a terminal ended."""
    connection.execute(
        "UPDATE subagents SET ended = (SELECT state FROM turns WHERE session = 'subagent:' || subagents.id"
        " ORDER BY id LIMIT 1) WHERE ended = '' AND id IN (SELECT SUBSTR(external_id, 10) FROM inbox"
        " WHERE turn = ? AND state = 'claimed' AND source = 'report')",  # subagent:<id>
        (turn,),
    )


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
