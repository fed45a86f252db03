"""`nanobot session`: list, show and export conversations."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from nanobot import paths
from nanobot.errors import UsageError
from nanobot.session.export import as_json, as_markdown, minute
from nanobot.session.store import SessionInfo, Store, StoredMessage
from nanobot.storage.sqlite import SqliteStore
from nanobot.terminal.screen import clean, one_line

DEFAULT_SESSION = "cli:direct"


def session_key(name: str) -> str:
    """`name` as a session key: one without a colon belongs to the terminal. Raises UsageError."""
    cleaned = name.strip()
    if not cleaned.strip(":") or not cleaned.isprintable():
        raise UsageError(f"{name!r} cannot be the name of a session. Use letters, digits and dashes.")
    return cleaned if ":" in cleaned else f"cli:{cleaned}"


def list_sessions(limit: int, *, as_json: bool) -> None:
    async def read() -> list[SessionInfo]:
        async with open_store() as store:
            return await store.sessions(limit) if store else []

    sessions = asyncio.run(read())
    if as_json:
        print(json.dumps([asdict(info) for info in sessions], indent=2))
    elif not sessions:
        print("There are no conversations yet. `nanobot agent` begins one.", file=sys.stderr)
    else:
        lines = (
            f"{info.key:<24} {info.messages:>6}  {minute(info.updated_at)}  {info.title}" for info in sessions
        )
        _write("\n".join(lines))


def print_session(name: str, form: str, *, last: int | None = None, output: Path | None = None) -> None:
    """Write a session, or its last messages, as md or jsonl. Raises UsageError and StorageError."""
    if form not in ("md", "jsonl"):
        raise UsageError(f"{form!r} is no export format. Use md or jsonl.")
    info, messages = asyncio.run(_read_session(name, last))
    if form == "jsonl":
        lines = [json.dumps(as_json(stored), ensure_ascii=False) for stored in messages]
    else:
        period = f"{minute(info.created_at)} to {minute(info.updated_at)}"
        lines = [f"# {one_line(info.title, 200) or info.key}\n\nSession `{info.key}`, {period}.\n"]
        lines += [text for stored in messages for text in as_markdown(stored)]
    if output is None:
        _write("\n".join(lines))
    else:
        paths.write_atomic(output, "\n".join([*lines, ""]).encode("utf-8", "replace"))


@asynccontextmanager
async def open_store() -> AsyncIterator[Store | None]:
    """The database, or None when there is none yet."""
    path = paths.database_file()
    if not path.exists():
        yield None
        return
    store = SqliteStore(path)
    try:
        yield store
    finally:
        await store.aclose()


async def _read_session(name: str, limit: int | None) -> tuple[SessionInfo, list[StoredMessage]]:
    """A session and its last `limit` messages."""
    key = session_key(name)
    async with open_store() as store:
        info = await store.session(key) if store else None
        if store is None or info is None:
            raise UsageError(f"There is no session {key}. `nanobot session list` shows them.")
        after = 0 if limit is None else max(0, info.messages - limit)
        return info, await store.history(key, after=after)


def _write(text: str) -> None:
    if sys.stdout.isatty():
        print(clean(text))
    else:
        sys.stdout.buffer.write(f"{text}\n".encode("utf-8", "replace"))
