"""`nanobot memory`: what is remembered, seen from the shell, where the owner sees everything."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nanobot.memory.ranking import Hit

_EXCERPT = 300  # characters of a hit

memory_app = typer.Typer(
    help="Search what is remembered.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@memory_app.callback()
def _memory() -> None:
    """Keeps `search` a command of a group while it is the only one."""


@memory_app.command("search")
def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="Words, names, dates, or an id.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many, best first.")] = 10,
    session: Annotated[str, typer.Option("--session", "-s", help="As a turn of this session sees it.")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Find facts, summaries and messages of all conversations."""
    import asyncio

    hits = asyncio.run(_search(" ".join(query), limit, session))
    if json_output:
        _print_json(hits)
    elif hits:
        _print(hits, " ".join(query))
    else:
        print("Nothing found. Try other words, a name, or a date.", file=sys.stderr)


async def _search(query: str, limit: int, session: str) -> list[Hit]:
    from nanobot import paths
    from nanobot.cli.agent import load_and_warn
    from nanobot.cli.sessions import session_key
    from nanobot.memory.search import MemorySearch
    from nanobot.storage.search_rows import Scope
    from nanobot.storage.sqlite import SqliteStore
    from nanobot.terminal.screen import complain

    config = load_and_warn().config
    folder = config.workspace_path / "memory"
    if not paths.database_file().exists() and not folder.is_dir():
        return []
    store = SqliteStore(paths.database_file())
    memory = MemorySearch(store, folder, progress=_progress)
    try:
        scope = Scope(reach="everything")
        if session:
            info = await store.session(session_key(session))
            scope = Scope(session_key(session), bool(info and info.is_group), config.memory.scope)
        hits = await memory.search(query, scope, limit)
        _progress(0)
        for notice in memory.take_notices():
            complain(notice)
        return hits
    finally:
        await memory.aclose()
        await store.aclose()


def _progress(read: int) -> None:
    """A line that grows while messages are read, and goes away at the end (0)."""
    if sys.stderr.isatty():
        text = f"Reading messages for the search index: {read:,}" if read else ""
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _print(hits: list[Hit], query: str) -> None:
    from nanobot.memory.recall import describe, excerpt
    from nanobot.terminal.screen import clean

    for hit in hits:
        shown = f"{describe(hit)}\n    {excerpt(hit.text, query, _EXCERPT)}"
        print(clean(hit.text if hit.kind == "message" else shown))


def _print_json(hits: list[Hit]) -> None:
    import json

    shown = [
        {
            "kind": hit.kind,
            "id": hit.id,
            "date": hit.day,
            "time": hit.time,
            "speaker": hit.speaker,
            "past": hit.past,
            "text": hit.text,
            "sources": list(hit.sources),
            "score": round(hit.score, 4),
        }
        for hit in hits
    ]
    print(json.dumps(shown, indent=2, ensure_ascii=False))
