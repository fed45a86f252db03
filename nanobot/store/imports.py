"""Conversations from files, added as they were: nothing that is stored already is merged or changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, groupby

from nanobot.store.records import ImportedSession
from nanobot.store.sessions import ensure_session, insert_message
from nanobot.store.sqlite import Connection, Table, writes


class Imports(Table):
    """Which files of an older nanobot were taken over."""

    async def known(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Those of `names` that were imported before: what was left out of each, and its state then."""
        marks = ", ".join("?" * len(names)) or "NULL"
        query = f"SELECT name, left_out, state FROM imports WHERE name IN ({marks})"
        rows = await self.database.rows(query, *names)
        return {row["name"]: (row["left_out"], row["state"]) for row in rows}

    @writes
    def add(
        self, connection: Connection, session: ImportedSession, name: str, left_out: str = "", state: str = ""
    ) -> str:
        """Add the conversation in a file; its key, made unique, or "" if nothing was to add.

        Once for each `name`; when something was `left_out`, in words, once more for another `state` of it.
        """
        connection.hold("imports")
        noted = connection.execute(
            "INSERT INTO imports (name, imported_at, left_out, state) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET left_out = excluded.left_out, state = excluded.state"
            " WHERE imports.left_out <> '' AND imports.state <> excluded.state",
            (name, connection.now, left_out, state),
        )
        return _add(connection, session) if noted.rowcount and session.messages else ""


def note_import(connection: Connection, name: str) -> bool:
    """Remember that a file was taken over; False when it was before."""
    insert = "INSERT INTO imports (name, imported_at) VALUES (?, ?) ON CONFLICT (name) DO NOTHING"
    return connection.execute(insert, (name, connection.now)).rowcount > 0


def _add(connection: Connection, session: ImportedSession) -> str:
    key = _free_key(connection, session.key)
    title = session.title if key == session.key else f"{session.title or session.key} (imported)"
    times = [stored.created_at for stored in session.messages]
    total = len(session.messages)
    start = min(session.start, total)  # what is before it, the older nanobot has summarised
    ensure_session(connection, key, min(times), session.kind)
    connection.execute(
        "UPDATE sessions SET created_at = ?, updated_at = ?, last_seq = ?, start_seq = ?,"
        " consolidated_seq = ?, is_group = CASE WHEN is_group = 1 THEN 1 ELSE ? END WHERE key = ?",
        (min(times), max(times), total, start, start, int(session.is_group), key),
    )
    connection.execute(
        "UPDATE conversations SET title = ?, created_at = ?, updated_at = ?, start_seq = ? WHERE session = ?",
        (title, min(times), max(times), start, key),
    )
    seq = 0
    for _, group in groupby(session.messages, key=lambda stored: stored.turn_id):
        turn = list(group)
        row = connection.execute(
            "INSERT INTO turns (session, conversation, origin, state, worker, first_seq, started_at,"
            " finished_at) SELECT key, conversation, 'terminal', 'done', 0, ?, ?, ? FROM sessions"
            " WHERE key = ? RETURNING id",
            (seq + 1, turn[0].created_at, turn[-1].created_at, key),
        ).fetchone()
        for stored in turn:
            seq += 1
            insert_message(connection, key, stored._replace(seq=seq, turn_id=row["id"]))
    return key


def _free_key(connection: Connection, key: str) -> str:
    """`key`, or `key~2` and so on when there is or was a turn under it."""
    candidates = (key if number == 1 else f"{key}~{number}" for number in count(1))
    taken = "SELECT 1 FROM turns WHERE session = ?"
    return next(free for free in candidates if not connection.execute(taken, (free,)).fetchone())
