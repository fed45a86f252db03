"""Conversations from files, added as they were: nothing that is stored already is merged or changed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from nanobot.store.records import ImportedSession
from nanobot.store.sessions import ensure_session, insert_message
from nanobot.store.sqlite import Connection


def known_imports(connection: Connection, names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Those of `names` that were imported before: what was left out of each, and its state then."""
    marks = ", ".join("?" * len(names)) or "NULL"
    query = f"SELECT name, left_out, state FROM imports WHERE name IN ({marks})"
    return {name: (left_out, state) for name, left_out, state in connection.rows(query, *names)}


def note_import(connection: Connection, name: str, left_out: str = "", state: str = "") -> bool:
    """Remember that a file was taken over, once for each `name`; False when it was before.

    When something was `left_out`, in words, once more for another `state` of the file.
    """
    noted = connection.change(
        "INSERT INTO imports (name, imported_at, left_out, state) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET left_out = excluded.left_out, state = excluded.state"
        " WHERE imports.left_out <> '' AND imports.state <> excluded.state",
        *(name, connection.now, left_out, state),
    )
    return noted > 0


def import_session(
    connection: Connection, session: ImportedSession, name: str, left_out: str = "", state: str = ""
) -> str:
    """Add the conversation in a file, as `note_import`; its key, made unique, or "" if nothing was to add."""
    connection.hold("imports")
    if not note_import(connection, name, left_out, state) or not session.messages:
        return ""
    key, number = session.key, 1
    while connection.row("SELECT 1 FROM turns WHERE session = ?", key):  # there is or was one under it
        number += 1
        key = f"{session.key}~{number}"
    title = session.title if number == 1 else f"{session.title or session.key} (imported)"
    times = [stored.created_at for stored in session.messages]
    total = len(session.messages)
    start = min(session.start, total)  # what is before it, the older nanobot has summarised
    ensure_session(connection, key, session.kind)
    connection.change(
        "UPDATE sessions SET created_at = ?, updated_at = ?, last_seq = ?, start_seq = ?,"
        " consolidated_seq = ?, is_group = CASE WHEN is_group = 1 THEN 1 ELSE ? END WHERE key = ?",
        *(min(times), max(times), total, start, start, int(session.is_group), key),
    )
    connection.change(
        "UPDATE conversations SET title = ?, messages = ?, created_at = ?, updated_at = ?, start_seq = ?"
        " WHERE session = ?",
        *(title, total, min(times), max(times), start, key),
    )
    seq = 0
    for _, group in groupby(session.messages, key=lambda stored: stored.turn_id):
        turn = list(group)
        (row,) = connection.rows(
            "INSERT INTO turns (session, conversation, origin, state, worker, first_seq, started_at,"
            " finished_at) SELECT key, conversation, 'terminal', 'done', 0, ?, ?, ? FROM sessions"
            " WHERE key = ? RETURNING id",
            *(seq + 1, turn[0].created_at, turn[-1].created_at, key),
        )
        for stored in turn:
            seq += 1
            insert_message(connection, key, stored._replace(seq=seq, turn_id=row["id"]))
    return key
