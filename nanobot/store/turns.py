"""Turns: which accepted message becomes one, who may write to it, what it stores, and how it ends.

A session is a lane: one turn at a time. What belongs to no process waits in the order of its session, and any
worker may begin it, or go on with it when its worker is gone. What a process has submitted for itself is its
own alone. Every write of a turn carries its claim, so a worker that lost its turn cannot write any more.
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
from nanobot.store.records import Claim, InboxTurn, StoredMessage
from nanobot.store.sessions import insert_message, read_history, running_turn
from nanobot.store.sqlite import Connection, Database, Row, Table, writes
from nanobot.store.workers import Workers

_TITLE = 60  # characters
_UNREADABLE = "The message of this turn cannot be read by this nanobot."
_OF_OWNER = "session = ? AND owner = ? AND state = 'pending'"
# Free lanes with a message that waits, the longest unserved first: looked up one by one, however much waits.
_FREE = (
    "WITH RECURSIVE heads (session) AS (SELECT MIN(session) FROM inbox WHERE owner = ? AND state = 'pending'"
    " UNION ALL SELECT (SELECT MIN(session) FROM inbox WHERE owner = ? AND state = 'pending'"
    " AND session > heads.session) FROM heads WHERE session IS NOT NULL)"
    " SELECT session, kind FROM heads JOIN sessions ON key = session"
    " WHERE NOT EXISTS (SELECT 1 FROM turns WHERE turns.session = heads.session AND state = 'running')"
    " ORDER BY (SELECT COALESCE(MAX(id), 0) FROM turns WHERE turns.session = heads.session), (SELECT MIN(id)"
    " FROM inbox WHERE owner = ? AND inbox.session = heads.session AND state = 'pending')"
)
_OF_OTHERS = (
    "SELECT turns.*, kind, ended FROM turns JOIN sessions ON key = session"
    " LEFT JOIN subagents ON kind = 'subagent' AND subagents.id = SUBSTR(session, 10)"
    " WHERE state = 'running' AND turns.worker <> ? ORDER BY turns.id"
)


class Turns(Table):
    """The order in which messages become turns, and what turns store.
    Every write of a running turn raises TurnTakenOver when its claim is lost."""

    def __init__(self, database: Database, workers: Workers) -> None:
        super().__init__(database)
        self._workers = workers

    async def claim(self, owner: str = "", chats: int = 1, subagents: int = 1) -> list[InboxTurn]:
        """The next turns to work on, at most so many of chats and of subagents.

        Those whose worker is gone come first, then those of the longest unserved lanes. An `owner` gets what
        it has submitted, in that order, and nothing else.
        """
        return await self._claim(self._workers.enlist(), owner, chats, subagents)

    @writes
    def _claim(self, connection: Connection, me: int, owner: str, *most: int) -> list[InboxTurn]:
        room = list(most)  # for chats, for subagents
        taken = self._take_over(connection, me, owner, room)
        for row in connection.rows(_FREE, owner, owner, owner):
            session, is_subagent = row["session"], row["kind"] == "subagent"
            if room[is_subagent] <= 0:
                continue
            connection.hold(session)
            found = mail.first(connection, _OF_OWNER, session, owner)
            if found is None or running_turn(connection, session):  # somebody was faster
                continue
            claim = _open(connection, found[1], me)
            _claim_message(connection, found[0], claim)
            taken.append(InboxTurn(claim, found[1], is_subagent))
            room[is_subagent] -= 1
        return taken

    def _take_over(self, connection: Connection, me: int, owner: str, room: list[int]) -> list[InboxTurn]:
        """Go on with what workers that are gone have begun, or close it."""
        taken = []
        for turn in connection.rows(_OF_OTHERS, me):
            session, is_subagent = turn["session"], turn["kind"] == "subagent"
            if turn["origin"] == "terminal":
                close_dead(connection, self._workers, session)
                continue
            if owner or room[is_subagent] <= 0 or self._workers.is_alive(turn["worker"]):
                continue
            connection.hold(session)
            mine = connection.row(
                "UPDATE turns SET worker = ?, epoch = epoch + 1"
                " WHERE id = ? AND epoch = ? AND state = 'running' RETURNING *",
                *(me, turn["id"], turn["epoch"]),
            )
            if mine is None:  # somebody was faster
                continue
            claim = _claim_of(mine)
            if turn["ended"] == "cancelled":  # its worker died before it could stop
                _end(connection, claim, "cancelled")
            elif (found := mail.first(connection, "turn = ? AND state = 'claimed'", claim.turn_id)) is None:
                _end(connection, claim, "error", _UNREADABLE)
            else:
                taken.append(InboxTurn(claim, found[1], is_subagent))
                room[is_subagent] -= 1
        return taken

    @writes
    def blocked(self, connection: Connection, owner: str) -> tuple[InboundMessage, bool | None] | None:
        """The owner's first message that waits, and whether it is given up: only a gateway frees its lane.

        None in its place: the lane is free by now.
        """
        found = mail.first(connection, "owner = ? AND state = 'pending'", owner)
        if found is None:
            return None
        number, inbound = found
        connection.hold(inbound.session_key)
        running = running_turn(connection, inbound.session_key)
        if running is None:
            return inbound, None
        given_up = running["origin"] == "inbox" and not self._workers.is_alive(running["worker"])
        if given_up:
            connection.change("UPDATE inbox SET state = 'done' WHERE id = ? AND state = 'pending'", number)
        return inbound, given_up

    @writes
    def last_interrupted(self, connection: Connection, key: str) -> str | None:
        """What the session's newest turn had been asked, when its terminal went away in the middle of it;
        "" if it told of a subagent.
        """
        close_dead(connection, self._workers, key)
        row = connection.row("SELECT * FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1", key)
        if row is None or row["state"] != "interrupted":
            return None
        messages = read_history(connection, key, row["first_seq"] - 1, 1)
        text = messages[0].message.text if messages else "(that was lost)"
        return text if row["family"] is None else ""

    @writes
    def append(self, connection: Connection, claim: Claim, *messages: Message) -> list[StoredMessage]:
        """Add messages to a running turn, all or none."""
        _check(connection, claim)
        return [_append(connection, claim, message) for message in messages]

    @writes
    def record_intent(self, connection: Connection, claim: Claim, call_id: str) -> bool:
        """Note that a tool call is about to run; False when it was before, so that it may have run."""
        _check(connection, claim)
        insert = "INSERT INTO intents (turn, call_id) VALUES (?, ?) ON CONFLICT (turn, call_id) DO NOTHING"
        return connection.change(insert, claim.turn_id, call_id) > 0

    @writes
    def steer(
        self, connection: Connection, claim: Claim, messages: Mapping[int, Message]
    ) -> list[StoredMessage]:
        """Add what still waits to a running turn: ids of the inbox, and what the model is shown of each."""
        _check(connection, claim)
        mine = [shown for number, shown in messages.items() if _claim_message(connection, number, claim)]
        return [_append(connection, claim, message) for message in mine]

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
        said: Message | None = None,
        inbound: InboundMessage | None = None,
        tokens: int = 0,
    ) -> None:
        """Add what was `said` last, close the turn, acknowledge its messages, queue its replies, accept
        `inbound`: one transaction. A turn that did not come to its end says so in the history, one that did
        sends no reply to a chat that a tool call has written to.
        """
        connection.hold(claim.session_key, *([inbound.session_key] if inbound else []))
        was_cancelled = _end(connection, claim, reason, error, said)
        connection.change("UPDATE turns SET tokens = ? WHERE id = ?", tokens, claim.turn_id)
        if used.tokens:
            connection.change(
                "UPDATE conversations SET context_tokens = ?, context_estimate = ?"
                " WHERE id = (SELECT conversation FROM turns WHERE id = ?)",
                *(used.tokens, used.estimated, claim.turn_id),
            )
        for message in outbound:
            if reason != "done" or not mail.was_sent(connection, claim.turn_id, message):
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
        connection.change("UPDATE turns SET calling = 0 WHERE id = ?", claim.turn_id)
        is_free = first_is_free and not calls
        if not is_free and (calls >= own or _family_spent(connection, family)[0] >= together):
            return False
        return connection.change("UPDATE turns SET calling = 1 WHERE id = ?", claim.turn_id) > 0

    async def family_spent(self, family: int) -> tuple[int, float]:
        """Model calls of a turn and all that share them, and when it began (Unix seconds)."""
        return await self.database.read(_family_spent, family)


def close_dead(connection: Connection, workers: Workers, key: str) -> None:
    """End what a terminal that is gone has left in a session; what a person had asked, as interrupted."""
    connection.hold(key)
    running = running_turn(connection, key)
    if running is not None:
        if running["origin"] != "terminal" or workers.exists(running["worker"]):
            return
        _close(connection, _claim_of(running), "interrupted")
    query = "SELECT DISTINCT owner FROM inbox WHERE session = ? AND state = 'pending' AND owner <> ''"
    for (owner,) in connection.rows(query, key):
        while not workers.exists(int(owner)) and (found := mail.first(connection, _OF_OWNER, key, owner)):
            number, inbound = found
            connection.change("UPDATE inbox SET state = 'done' WHERE id = ?", number)
            if inbound.source == "person":
                claim = _open(connection, inbound, 0)
                _append(connection, claim, Message.user(inbound.text))
                _close(connection, claim, "interrupted")


def _open(connection: Connection, inbound: InboundMessage, worker: int) -> Claim:
    """Begin the turn of a message, in a lane that is free."""
    (row,) = connection.rows(
        "INSERT INTO turns (name, session, conversation, origin, state, worker, first_seq, started_at,"
        " family) SELECT ?, key, conversation, ?, 'running', ?, last_seq + 1, ?, ? FROM sessions"
        " WHERE key = ? RETURNING *",
        *(secrets.token_hex(8), "terminal" if inbound.owner else "inbox", worker),
        *(connection.now, inbound.family, inbound.session_key),
    )
    return _claim_of(row)


def _claim_of(turn: Row) -> Claim:
    return Claim(turn["id"], turn["session"], turn["epoch"], turn["name"])


def _claim_message(connection: Connection, inbox_id: int, claim: Claim) -> bool:
    """Make a message that waits one of the turn; False when it does not wait any more."""
    update = "UPDATE inbox SET state = 'claimed', turn = ? WHERE id = ? AND state = 'pending'"
    return connection.change(update, claim.turn_id, inbox_id) > 0


def _append(connection: Connection, claim: Claim, message: Message) -> StoredMessage:
    (row,) = connection.rows(
        "UPDATE sessions SET last_seq = last_seq + 1, updated_at = ? WHERE key = ? RETURNING last_seq",
        *(connection.now, claim.session_key),
    )
    title = " ".join(message.text.split())[:_TITLE] if message.role == "user" else ""
    connection.change(
        "UPDATE conversations SET messages = messages + 1, updated_at = ?, title = CASE WHEN title = ''"
        " THEN ? ELSE title END WHERE id = (SELECT conversation FROM turns WHERE id = ?)",
        *(connection.now, title, claim.turn_id),
    )
    stored = StoredMessage(row["last_seq"], claim.turn_id, connection.now, message)
    insert_message(connection, claim.session_key, stored)
    if message.role == "assistant":
        connection.change("UPDATE turns SET calls = calls + 1, calling = 0 WHERE id = ?", claim.turn_id)
    return stored


def _close(
    connection: Connection, claim: Claim, state: str, error: str = "", said: Message | None = None
) -> None:
    """End a turn, leaving a valid history: a call without a result gets one, a turn without an end a note."""
    first = _check(connection, claim)["first_seq"]
    stored = read_history(connection, claim.session_key, first - 1, None)
    for call in unanswered_calls([entry.message for entry in stored]):
        result = ToolResult(call.id, call.name, INTERRUPTED, "interrupted")
        if state in ("cancelled", "limit"):
            result = ToolResult(call.id, call.name, STOPPED, "cancelled")
        _append(connection, claim, Message("tool", (result,)))
    if said is not None:
        _append(connection, claim, said)
    if stored and state in UNFINISHED:
        _append(connection, claim, Message("user", (ContextPart(UNFINISHED[state]),)))
    connection.change(
        "UPDATE turns SET state = ?, finished_at = ?, error = ?, calling = 0 WHERE id = ?",
        *(state, connection.now, error, claim.turn_id),
    )
    connection.change("DELETE FROM intents WHERE turn = ?", claim.turn_id)


def _end(
    connection: Connection, claim: Claim, state: str, error: str = "", said: Message | None = None
) -> bool:
    """Close a turn, acknowledge its messages, and note how a subagent went; True if that was cancelled."""
    _close(connection, claim, state, error, said)
    connection.change(  # subagents of a terminal have ended when their session was told
        "UPDATE subagents SET ended = (SELECT state FROM turns WHERE session = 'subagent:' || subagents.id"
        " ORDER BY id LIMIT 1) WHERE ended = '' AND id IN (SELECT SUBSTR(external_id, 10) FROM inbox"
        " WHERE turn = ? AND state = 'claimed' AND source = 'report')",  # subagent:<id>
        claim.turn_id,
    )
    connection.change("UPDATE inbox SET state = 'done' WHERE turn = ? AND state = 'claimed'", claim.turn_id)
    subagent = claim.session_key.removeprefix("subagent:")
    row = connection.row("SELECT ended FROM subagents WHERE id = ?", subagent)
    connection.change(  # all others when their turn has
        "UPDATE subagents SET ended = ? WHERE id = ? AND worker IS NULL AND ended = ''", state, subagent
    )
    return row is not None and row["ended"] == "cancelled"


def _check(connection: Connection, claim: Claim) -> Row:
    """The turn's row, when the claim still holds."""
    connection.hold(claim.session_key)
    query = "SELECT * FROM turns WHERE id = ? AND epoch = ? AND state = 'running'"
    row = connection.row(query, claim.turn_id, claim.epoch)
    if row is None:
        raise TurnTakenOver("Another nanobot has taken over this turn; this one stops here.")
    return row


def _family_spent(connection: Connection, family: int) -> tuple[int, float]:
    (first,) = connection.rows("SELECT calls + calling, started_at FROM turns WHERE id = ?", family)
    (others,) = connection.rows("SELECT SUM(calls + calling) FROM turns WHERE family = ?", family)
    return first[0] + (others[0] or 0), first[1]
