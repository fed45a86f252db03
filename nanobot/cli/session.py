"""`nanobot session`: list, show, rename, export and import conversations."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from nanobot import paths
from nanobot.cli.completion import names_of
from nanobot.cli.options import Json, new_app, print_result, runs
from nanobot.cli.storage import existing_store
from nanobot.columns import minute, table
from nanobot.commands.export import FORMATS, exported
from nanobot.errors import UsageError
from nanobot.store.records import SessionInfo
from nanobot.store.store import Store
from nanobot.terminal.options import conversation_named
from nanobot.terminal.screen import clean, complain, one_line

app = new_app()
SessionName = Annotated[
    str,
    typer.Argument(
        metavar="SESSION",
        help="@ID, or a key: the one that goes on there; NAME is cli:NAME.",
        autocompletion=names_of("sessions"),
    ),
]


@runs(app, "list")
async def list_sessions(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 50,
    json_output: Json = False,
) -> None:
    """List conversations, newest first."""
    async with _open_with_older(also_told=True) as store:
        sessions = await store.conversations.newest(limit) if store else []
    rows = [("ID", "KEY", "MESSAGES", "LATEST", "TITLE")]
    for it in sessions:
        said = str(it.messages), minute(it.updated_at), one_line(it.title, 200)
        rows.append((f"@{it.id}", it.key, *said))
    if not sessions:
        complain("There are no conversations yet. `nanobot agent` begins one.")
    print_result([it._asdict() for it in sessions], table(rows, right=[2]) if sessions else (), json_output)


@runs(app, "show")
async def show_session(
    name: SessionName,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many of the last messages.")] = 20,
    json_output: Json = False,
) -> None:
    """Print the last messages of a conversation."""
    await _write_session(name, "jsonl" if json_output else "md", limit)


@runs(app, "rename")
async def rename_session(name: SessionName, title: Annotated[str, typer.Argument(metavar="TITLE")]) -> None:
    """Give a conversation a title; its key stays."""
    from nanobot.commands.conversations import checked_title

    title = checked_title(title)
    async with _open_with_older() as store:
        info, store = await _find(store, name)
        await store.conversations.rename(info.id, title)
    _write(None, f"@{info.id} is now called {title}.")


@runs(app, "import")
async def import_files(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> int:
    """Add exported conversations, or those of an older nanobot."""
    failed = 0
    async with contextlib.aclosing(Store(paths.database_file())) as store:
        for path in files:
            try:
                _write(None, await _import_file(store, path))
            except UsageError as error:
                complain(f"Error: {error}")
                failed = 1
    return failed


@runs(app, "export")
async def export_session(
    name: SessionName,
    form: Annotated[str, typer.Option("--format", "-f", help="md, html or jsonl.")] = "md",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File instead of stdout.")] = None,
) -> None:
    """Write a conversation as Markdown, HTML or JSON Lines."""
    if form not in FORMATS:
        raise UsageError(f"{form!r} is no export format. Use {', '.join(FORMATS)}.")
    with paths.atomic_file(output) if output else contextlib.nullcontext() as file:
        await _write_session(name, form, None, file)


async def _write_session(name: str, form: str, last: int | None, file: BinaryIO | None = None) -> None:
    """The whole session, or its last messages."""
    async with _open_with_older() as store:
        info, store = await _find(store, name)
        newest = await store.conversations.latest(info.id, last) if last is not None else []
        async for piece in exported(store, info, form, newest[0].seq - 1 if newest else 0):
            _write(file, piece)


async def _import_file(store: Store, path: Path) -> str:
    from nanobot.legacy.sessions_file import read_file
    from nanobot.store.imports import import_session

    session, problems = await asyncio.to_thread(read_file, path, follow=True)
    if not session.messages:
        raise UsageError(
            f"{path} holds no conversation. `nanobot session export -f jsonl` writes such files."
        )
    digest = hashlib.sha256(repr(session).encode("utf-8", "replace")).hexdigest()
    key = await store.database.write(import_session, session, f"session:{digest}")
    if not key:
        raise UsageError(f"The conversation in {path} was imported before; `nanobot session list` shows it.")
    left_out = f" {problems} lines made no sense and were left out." if problems else ""
    return f"Imported {len(session.messages)} messages of {path} as {key}.{left_out}"


@asynccontextmanager
async def _open_with_older(*, also_told: bool = False) -> AsyncIterator[Store | None]:
    """The database with what the older nanobot left, or None when there is neither.

    Says what is new about that; with `also_told`, all that is left out of it.
    """
    from nanobot.legacy.sessions_file import import_sessions, left_out_sessions, older_files

    workspace = paths.home() / "workspace"
    if older_files(paths.home(), workspace):
        async with contextlib.aclosing(Store(paths.database_file())) as older:
            notices = await import_sessions(older, paths.home(), workspace)
            if also_told:
                notices += await left_out_sessions(older, paths.home(), workspace)
            for notice in dict.fromkeys(notices):
                complain(notice)
    async with existing_store() as store:
        yield store


async def _find(store: Store | None, name: str) -> tuple[SessionInfo, Store]:
    info = await conversation_named(store, name) if store else None
    if store is None or info is None:
        raise UsageError(f"There is no conversation {name.strip()}. `nanobot session list` shows them.")
    return info, store


def _write(file: BinaryIO | None, text: str) -> None:
    """A line into the file, or onto standard output."""
    if file is None and sys.stdout.isatty():
        print(clean(text))
    else:
        (file or sys.stdout.buffer).write(f"{text}\n".encode("utf-8", "replace"))
