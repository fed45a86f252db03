"""Lanes: which accepted message becomes a turn next, and who works on it.

A session is a lane: one turn at a time. What belongs to no process waits in the order of its session, and any
worker may begin it, or go on with it when its worker is gone. What a process has submitted for itself is its
own alone.
"""

from __future__ import annotations

from nanobot.messages import InboundMessage, Message
from nanobot.store import mail
from nanobot.store.records import InboxTurn
from nanobot.store.sessions import read_history, running_turn
from nanobot.store.sqlite import Connection, Database, Table, writes
from nanobot.store.turns import append, claim_message, claim_of, close, end, open_turn
from nanobot.store.workers import Workers

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


class Lanes(Table):
    """The order in which messages become turns."""

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
    def _claim(
        self, connection: Connection, me: int, owner: str, chats: int, subagents: int
    ) -> list[InboxTurn]:
        room = {False: chats, True: subagents}  # by whether the session is a subagent's
        taken = self._take_over(connection, me, owner, room)
        for row in connection.execute(_FREE, (owner, owner, owner)).fetchall():
            session, is_subagent = row["session"], row["kind"] == "subagent"
            if room[is_subagent] <= 0:
                continue
            connection.hold(session)
            found = mail.first(connection, _OF_OWNER, session, owner)
            if found is None or running_turn(connection, session):  # somebody was faster
                continue
            number, inbound = found
            claim = open_turn(connection, inbound, me)
            claim_message(connection, number, claim)
            taken.append(InboxTurn(claim, inbound, is_subagent))
            room[is_subagent] -= 1
        return taken

    def _take_over(
        self, connection: Connection, me: int, owner: str, room: dict[bool, int]
    ) -> list[InboxTurn]:
        """Go on with what workers that are gone have begun, or close it."""
        taken = []
        rows = connection.execute(
            "SELECT turns.*, kind, ended FROM turns JOIN sessions ON key = session"
            " LEFT JOIN subagents ON kind = 'subagent' AND subagents.id = SUBSTR(session, 10)"
            " WHERE state = 'running' AND turns.worker <> ? ORDER BY turns.id",
            (me,),
        )
        for turn in rows.fetchall():
            session, is_subagent = turn["session"], turn["kind"] == "subagent"
            if turn["origin"] == "terminal":
                close_dead(connection, self._workers, session)
                continue
            if owner or room[is_subagent] <= 0 or self._workers.is_alive(turn["worker"]):
                continue
            connection.hold(session)
            mine = connection.execute(
                "UPDATE turns SET worker = ?, epoch = epoch + 1"
                " WHERE id = ? AND epoch = ? AND state = 'running' RETURNING *",
                (me, turn["id"], turn["epoch"]),
            ).fetchone()
            if mine is None:  # somebody was faster
                continue
            claim = claim_of(mine)
            if turn["ended"] == "cancelled":  # its worker died before it could stop
                end(connection, claim, "cancelled")
            elif (found := mail.first(connection, "turn = ? AND state = 'claimed'", claim.turn_id)) is None:
                end(connection, claim, "error", _UNREADABLE)
            else:
                taken.append(InboxTurn(claim, found[1], is_subagent))
                room[is_subagent] -= 1
        return taken

    @writes
    def blocked(self, connection: Connection, owner: str) -> tuple[InboundMessage, bool | None] | None:
        """The owner's first message that waits, and whether it is given up: only a gateway frees its lane.

        None in its place: the lane is free by now.
        """
        query = "SELECT session FROM inbox WHERE owner = ? AND state = 'pending' ORDER BY id LIMIT 1"
        row = connection.execute(query, (owner,)).fetchone()
        if row is None:
            return None
        connection.hold(row["session"])
        found = mail.first(connection, _OF_OWNER, row["session"], owner)
        if found is None:
            return None
        number, inbound = found
        running = running_turn(connection, inbound.session_key)
        if running is None:
            return inbound, None
        given_up = running["origin"] == "inbox" and not self._workers.is_alive(running["worker"])
        if given_up:
            connection.execute(
                "UPDATE inbox SET state = 'done' WHERE id = ? AND state = 'pending'", (number,)
            )
        return inbound, given_up

    @writes
    def last_interrupted(self, connection: Connection, key: str) -> str | None:
        """What the session's newest turn had been asked, when its terminal went away in the middle of it;
        "" if it told of a subagent.
        """
        close_dead(connection, self._workers, key)
        row = connection.execute(
            "SELECT * FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1", (key,)
        ).fetchone()
        if row is None or row["state"] != "interrupted":
            return None
        messages = read_history(connection, key, row["first_seq"] - 1, 1)
        text = messages[0].message.text if messages else "(that was lost)"
        return text if row["family"] is None else ""


def close_dead(connection: Connection, workers: Workers, key: str) -> None:
    """End what a terminal that is gone has left in a session; what a person had asked, as interrupted."""
    connection.hold(key)
    running = running_turn(connection, key)
    if running is not None:
        if running["origin"] != "terminal" or workers.exists(running["worker"]):
            return
        close(connection, claim_of(running), "interrupted")
    query = "SELECT DISTINCT owner FROM inbox WHERE session = ? AND state = 'pending' AND owner <> ''"
    owners = [row["owner"] for row in connection.execute(query, (key,))]
    for owner in (owner for owner in owners if not workers.exists(int(owner))):
        while (found := mail.first(connection, _OF_OWNER, key, owner)) is not None:
            number, inbound = found
            connection.execute("UPDATE inbox SET state = 'done' WHERE id = ?", (number,))
            if inbound.source == "person":
                claim = open_turn(connection, inbound, 0)
                append(connection, claim, Message.user(inbound.text))
                close(connection, claim, "interrupted")
