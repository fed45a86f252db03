"""Conversations from files, added as they were: nothing that is stored already is merged or changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from itertools import count, groupby

from nanobot.session.store import ImportedSession
from nanobot.storage import conversations


def import_session(connection: sqlite3.Connection, session: ImportedSession, name: str, now: float) -> str:
    """Add a session and its messages under a key that is free; "" when `name` was imported before."""
    known = connection.execute("INSERT OR IGNORE INTO imports VALUES (?, ?)", (name, now))
    if not known.rowcount or not session.messages:
        return ""
    key = _free_key(connection, session.key)
    title = session.title if key == session.key else f"{session.title or session.key} (imported)"
    times = [stored.created_at for stored in session.messages]
    total = len(session.messages)
    start = min(session.start, total)  # what is before it, the older nanobot has summarised
    conversations.ensure_session(connection, key, min(times), session.kind)
    connection.execute(
        "UPDATE sessions SET title = ?, created_at = ?, updated_at = ?, last_seq = ?, start_seq = ?,"
        " consolidated_seq = ?, is_group = MAX(is_group, ?) WHERE key = ?",
        (title, min(times), max(times), total, start, start, session.is_group, key),
    )
    seq = 0
    for _, group in groupby(session.messages, key=lambda stored: stored.turn_id):
        turn = list(group)
        row = connection.execute(
            "INSERT INTO turns (session, origin, state, worker, first_seq, started_at, finished_at)"
            " VALUES (?, 'terminal', 'done', 0, ?, ?, ?) RETURNING id",
            (key, seq + 1, turn[0].created_at, turn[-1].created_at),
        ).fetchone()
        for stored in turn:
            seq += 1
            conversations.insert_message(connection, key, replace(stored, seq=seq, turn_id=row["id"]))
    return key


def _free_key(connection: sqlite3.Connection, key: str) -> str:
    """`key`, or `key~2` and so on when there is or was a turn under it."""
    candidates = (key if number == 1 else f"{key}~{number}" for number in count(1))
    taken = "SELECT 1 FROM turns WHERE session = ?"
    return next(free for free in candidates if not connection.execute(taken, (free,)).fetchone())


def imported(connection: sqlite3.Connection, names: Sequence[str]) -> frozenset[str]:
    found = "SELECT 1 FROM imports WHERE name = ?"
    return frozenset(name for name in names if connection.execute(found, (name,)).fetchone())
