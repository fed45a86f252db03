"""`nanobot session`: list, show and export conversations."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from nanobot import paths
from nanobot.cli.screen import clean, one_line
from nanobot.errors import UsageError
from nanobot.messages import Message, TextPart, ToolCall, ToolResult, message_to_json
from nanobot.session.sqlite import SqliteStore
from nanobot.session.store import SessionInfo, Store, StoredMessage

DEFAULT_SESSION = "cli:direct"
_SHOWN_RESULT = 200  # characters of a tool result in `session show`
_SPEAKERS = {"user": "You", "assistant": "nanobot"}


def session_key(name: str) -> str:
    """`name` as a session key: one without a colon belongs to the terminal. Raises UsageError."""
    cleaned = name.strip()
    if not cleaned.strip(":") or not cleaned.isprintable():
        raise UsageError(f"{name!r} cannot be the name of a session. Use letters, digits and dashes.")
    return cleaned if ":" in cleaned else f"cli:{cleaned}"


def list_sessions(limit: int, *, as_json: bool) -> None:
    sessions = asyncio.run(_read_list(limit))
    if as_json:
        print(json.dumps([_info_to_json(info) for info in sessions], indent=2))
        return
    if not sessions:
        print("There are no conversations yet. `nanobot agent` begins one.", file=sys.stderr)
        return
    width = max(len(info.key) for info in sessions)
    for info in sessions:
        line = f"{info.key:<{width}}  {info.messages:>6}  {_when(info.updated_at)}  {info.title}"
        print(_for_stdout(line.rstrip()))


def show_session(name: str, limit: int, *, as_json: bool) -> None:
    """Raises UsageError for an unknown session."""
    info, messages = asyncio.run(_read_session(name, limit))
    if as_json:
        print(json.dumps({**_info_to_json(info), "items": [_stored_to_json(item) for item in messages]}))
        return
    for stored in messages:
        for line in _shown(stored):
            print(_for_stdout(line))


def export_session(name: str, form: str, output: Path | None) -> None:
    """Write the whole session. Raises UsageError for an unknown session or format, StorageError."""
    if form not in ("md", "jsonl"):
        raise UsageError(f"{form!r} is no export format. Use md or jsonl.")
    info, messages = asyncio.run(_read_session(name, None))
    if form == "jsonl":
        text = "".join(json.dumps(_stored_to_json(item), ensure_ascii=False) + "\n" for item in messages)
    else:
        text = "\n".join(_as_markdown(info, messages)) + "\n"
    data = text.encode("utf-8", "replace")
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        paths.write_atomic(output, data)


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


async def _read_list(limit: int) -> list[SessionInfo]:
    async with open_store() as store:
        return await store.sessions(limit) if store else []


async def _read_session(name: str, limit: int | None) -> tuple[SessionInfo, list[StoredMessage]]:
    """A session and its last `limit` messages."""
    key = session_key(name)
    async with open_store() as store:
        info = await store.session(key) if store else None
        if store is None or info is None:
            raise UsageError(f"There is no session {key}. `nanobot session list` shows them.")
        after = 0 if limit is None else max(0, info.messages - limit)
        return info, await store.history(key, after=after)


def _shown(stored: StoredMessage) -> Iterator[str]:
    message = stored.message
    if message.text.strip():
        yield f"{_SPEAKERS.get(message.role, message.role)}, {_when(stored.created_at)}"
        yield f"{message.text.strip()}\n"
    for call in message.tool_calls:
        yield f"  {one_line(_call(call), 120)}"
    for result in message.tool_results:
        yield f"  → {result.outcome}: {one_line(result.content, _SHOWN_RESULT)}\n"


def _as_markdown(info: SessionInfo, messages: Sequence[StoredMessage]) -> Iterator[str]:
    yield f"# {one_line(info.title, 200) or info.key}\n"
    yield f"Session `{info.key}`, {_when(info.created_at)} to {_when(info.updated_at)}.\n"
    for stored in messages:
        yield from _message_as_markdown(stored.message, stored.created_at)


def _message_as_markdown(message: Message, created_at: float) -> Iterator[str]:
    if message.role != "tool":
        yield f"## {_SPEAKERS[message.role]}, {_when(created_at)}\n"
    for part in message.parts:
        match part:
            case TextPart(text=text) if text.strip():
                yield f"{text.strip()}\n"
            case ToolCall():
                yield _fenced(_call(part))
            case ToolResult(content=content, outcome=outcome):
                yield f"Result of `{part.name}` ({outcome}):\n\n{_fenced(content)}"


def _fenced(text: str) -> str:
    """`text` as a code block whose fence is longer than any in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}\n"


def _call(call: ToolCall) -> str:
    arguments = call.malformed or json.dumps(dict(call.arguments), ensure_ascii=False)
    return f"{call.name} {arguments}"


def _info_to_json(info: SessionInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "title": info.title,
        "messages": info.messages,
        "created_at": info.created_at,
        "updated_at": info.updated_at,
    }


def _stored_to_json(stored: StoredMessage) -> dict[str, Any]:
    return {
        "seq": stored.seq,
        "turn": stored.turn_id,
        "created_at": stored.created_at,
        **message_to_json(stored.message),
    }


def _when(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp).strftime("%Y-%m-%d %H:%M")


def _for_stdout(text: str) -> str:
    return clean(text) if sys.stdout.isatty() else text
