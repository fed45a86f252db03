"""Turns: who may write to which, what they store, and how they end.

Nothing here assumes a single process: workers are identified, a turn belongs to the worker that claimed it,
and every write of a turn carries its claim, so a worker that lost its turn cannot write to it any more.
"""

from __future__ import annotations

import secrets
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
from nanobot.store.sqlite import Connection, Row, Table, writes

_TITLE = 60


class Turns(Table):
    """What running turns store. Every write raises TurnTakenOver when its claim is lost."""

    @writes
    def append(self, connection: Connection, claim: Claim, *messages: Message) -> list[StoredMessage]:
        """Add messages to a running turn, all or none."""
        _check(connection, claim)
        return [append(connection, claim, message) for message in messages]

    @writes
    def record_intent(self, connection: Connection, claim: Claim, call_id: str) -> bool:
        """Note that a tool call is about to run; False when it was before, so that it may have run."""
        _check(connection, claim)
        insert = "INSERT INTO intents (turn, call_id) VALUES (?, ?) ON CONFLICT (turn, call_id) DO NOTHING"
        return connection.execute(insert, (claim.turn_id, call_id)).rowcount > 0

    @writes
    def steer(
        self, connection: Connection, claim: Claim, messages: Mapping[int, Message]
    ) -> list[StoredMessage]:
        """Add what still waits to a running turn: ids of the inbox, and what the model is shown of each."""
        _check(connection, claim)
        mine = [shown for number, shown in messages.items() if claim_message(connection, number, claim)]
        return [append(connection, claim, message) for message in mine]

    @writes
    def finish(
        self,
        connection: Connection,
        claim: Claim,
        reason: StopReason,
        error: str = "",
        outbound: Sequence[OutboundMessage] = (),
        used: ContextUse = NOT_COUNTED,
        *,
        unless_sent: bool = False,
        said: Message | None = None,
        inbound: InboundMessage | None = None,
        tokens: int = 0,
    ) -> None:
        """Add what was `said` last, close the turn, acknowledge its messages, queue its replies, accept
        `inbound`: one transaction. A turn that did not come to its end says so in the history.

        `unless_sent`: a chat that a tool call has written to gets no reply.
        """
        connection.hold(claim.session_key, *([inbound.session_key] if inbound else []))
        was_cancelled = end(connection, claim, reason, error, said)
        connection.execute("UPDATE turns SET tokens = ? WHERE id = ?", (tokens, claim.turn_id))
        if used.tokens:
            connection.execute(
                "UPDATE sessions SET context_tokens = ?, context_estimate = ? WHERE key = ?",
                (used.tokens, used.estimated, claim.session_key),
            )
        for message in outbound:
            if not (unless_sent and mail.was_sent(connection, claim.turn_id, message)):
                mail.enqueue(connection, message, claim.turn_id)
        if inbound is not None and not was_cancelled:
            mail.accept(connection, inbound)

    @writes
    def reserve_call(
        self,
        connection: Connection,
        claim: Claim,
        family: int,
        own: int,
        together: int,
        *,
        first_is_free: bool = False,
    ) -> bool:
        """Allow one more model call; False after `own` of the turn, or `together` of the whole family.

        The reservation ends when the answer is recorded, or the turn ends.
        """
        connection.hold(claim.session_key, f"family:{family}")
        calls = _check(connection, claim)["calls"]
        connection.execute("UPDATE turns SET calling = 0 WHERE id = ?", (claim.turn_id,))
        is_free = first_is_free and not calls
        if not is_free and (calls >= own or _family_spent(connection, family)[0] >= together):
            return False
        connection.execute("UPDATE turns SET calling = 1 WHERE id = ?", (claim.turn_id,))
        return True

    async def family_spent(self, family: int) -> tuple[int, float]:
        """Model calls of a turn and all that share them, and when it began (Unix seconds)."""
        return await self.database.read(_family_spent, family)


def open_turn(connection: Connection, inbound: InboundMessage, worker: int) -> Claim:
    """Begin the turn of a message, in a lane that is free."""
    row = connection.execute(
        "INSERT INTO turns (name, session, origin, state, worker, first_seq, started_at, family)"
        " SELECT ?, key, ?, 'running', ?, last_seq + 1, ?, ? FROM sessions WHERE key = ? RETURNING *",
        (
            *(secrets.token_hex(8), "terminal" if inbound.owner else "inbox", worker),
            *(connection.now, inbound.family, inbound.session_key),
        ),
    ).fetchone()
    return claim_of(row)


def claim_of(turn: Row) -> Claim:
    return Claim(turn["id"], turn["session"], turn["epoch"], turn["name"])


def claim_message(connection: Connection, inbox_id: int, claim: Claim) -> bool:
    """Make a message that waits one of the turn; False when it does not wait any more."""
    update = "UPDATE inbox SET state = 'claimed', turn = ? WHERE id = ? AND state = 'pending'"
    return connection.execute(update, (claim.turn_id, inbox_id)).rowcount > 0


def append(connection: Connection, claim: Claim, message: Message) -> StoredMessage:
    title = " ".join(message.text.split())[:_TITLE] if message.role == "user" else ""
    row = connection.execute(
        "UPDATE sessions SET last_seq = last_seq + 1, updated_at = ?,"
        " title = CASE WHEN title = '' THEN ? ELSE title END WHERE key = ? RETURNING last_seq",
        (connection.now, title, claim.session_key),
    ).fetchone()
    stored = StoredMessage(row["last_seq"], claim.turn_id, connection.now, message)
    insert_message(connection, claim.session_key, stored)
    if message.role == "assistant":
        connection.execute("UPDATE turns SET calls = calls + 1, calling = 0 WHERE id = ?", (claim.turn_id,))
    return stored


def close(
    connection: Connection, claim: Claim, state: str, error: str = "", said: Message | None = None
) -> None:
    """End a turn, leaving a valid history: a call without a result gets one, a turn without an end a note."""
    first = _check(connection, claim)["first_seq"]
    stored = read_history(connection, claim.session_key, first - 1, None)
    for call in unanswered_calls([entry.message for entry in stored]):
        result = ToolResult(call.id, call.name, INTERRUPTED, "interrupted")
        if state in ("cancelled", "limit"):
            result = ToolResult(call.id, call.name, STOPPED, "cancelled")
        append(connection, claim, Message("tool", (result,)))
    if said is not None:
        append(connection, claim, said)
    if stored and state in UNFINISHED:
        append(connection, claim, Message("user", (ContextPart(UNFINISHED[state]),)))
    connection.execute(
        "UPDATE turns SET state = ?, finished_at = ?, error = ?, calling = 0 WHERE id = ?",
        (state, connection.now, error, claim.turn_id),
    )
    connection.execute("DELETE FROM intents WHERE turn = ?", (claim.turn_id,))


def end(
    connection: Connection, claim: Claim, state: str, error: str = "", said: Message | None = None
) -> bool:
    """Close a turn, acknowledge its messages, and note how a subagent went; True if that was cancelled."""
    close(connection, claim, state, error, said)
    connection.execute(  # subagents of a terminal have ended when their session was told
        "UPDATE subagents SET ended = (SELECT state FROM turns WHERE session = 'subagent:' || subagents.id"
        " ORDER BY id LIMIT 1) WHERE ended = '' AND id IN (SELECT SUBSTR(external_id, 10) FROM inbox"
        " WHERE turn = ? AND state = 'claimed' AND source = 'report')",  # subagent:<id>
        (claim.turn_id,),
    )
    connection.execute(
        "UPDATE inbox SET state = 'done' WHERE turn = ? AND state = 'claimed'", (claim.turn_id,)
    )
    subagent = claim.session_key.removeprefix("subagent:")
    row = connection.execute("SELECT ended FROM subagents WHERE id = ?", (subagent,)).fetchone()
    if row is not None and not row["ended"]:  # all others when their turn has
        connection.execute(
            "UPDATE subagents SET ended = ? WHERE id = ? AND worker IS NULL", (state, subagent)
        )
    return row is not None and row["ended"] == "cancelled"


def _check(connection: Connection, claim: Claim) -> Row:
    """The turn's row, when the claim still holds."""
    connection.hold(claim.session_key)
    row: Row | None = connection.execute(
        "SELECT * FROM turns WHERE id = ? AND epoch = ? AND state = 'running'", (claim.turn_id, claim.epoch)
    ).fetchone()
    if row is None:
        raise TurnTakenOver("Another nanobot has taken over this turn; this one stops here.")
    return row


def _family_spent(connection: Connection, family: int) -> tuple[int, float]:
    (first,) = connection.execute("SELECT calls + calling, started_at FROM turns WHERE id = ?", (family,))
    (others,) = connection.execute("SELECT SUM(calls + calling) FROM turns WHERE family = ?", (family,))
    return first[0] + (others[0] or 0), first[1]
