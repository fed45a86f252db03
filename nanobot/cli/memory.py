"""`nanobot memory`: what is remembered, seen from the shell, where the owner sees everything."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from nanobot.cli.options import Json, new_app, print_result, runs
from nanobot.terminal.options import load_and_warn, session_key
from nanobot.terminal.screen import clean, complain, one_line

_EXCERPT = 300  # characters of a hit

app = new_app()


@runs(app, "search")
async def search(
    query: Annotated[list[str], typer.Argument(metavar="QUERY", help="Words, names, dates, or an id.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many, best first.")] = 10,
    session: Annotated[str, typer.Option("--session", "-s", help="As a turn of this session sees it.")] = "",
    json_output: Json = False,
) -> None:
    """Find facts, summaries and messages of all conversations."""
    from nanobot import paths
    from nanobot.memory.files import open_files
    from nanobot.memory.ranking import Hit, describe, excerpt
    from nanobot.memory.search import MemorySearch
    from nanobot.memory.search_index import SearchScope
    from nanobot.store.store import Store

    config, words, hits = load_and_warn().config, " ".join(query), list[Hit]()
    folder, scope = config.workspace_path / "memory", SearchScope(reach="everything")
    if paths.database_file().exists() or folder.is_dir():
        async with (
            contextlib.aclosing(Store(paths.database_file())) as store,
            contextlib.aclosing(MemorySearch(store, folder, progress=_progress)) as memory,
        ):
            if session:
                info = await store.sessions.get(key := session_key(session))
                scope = SearchScope(key, bool(info and info.is_group), config.memory.scope)
            hits = await memory.search(words, scope, limit)
            _progress(0)
            for notice in [*memory.take_notices(), *open_files(config.workspace_path).complaints()]:
                complain(notice)
    rows = [
        {
            **{"kind": hit.kind, "id": hit.id, "date": hit.day, "time": hit.time, "speaker": hit.speaker},
            **{"past": hit.past, "text": hit.text, "sources": list(hit.sources)},
            "score": float(f"{hit.score:.4g}"),
        }
        for hit in hits
    ]
    lines = [
        hit.text if hit.kind == "message" else f"{describe(hit)}\n    {excerpt(hit.text, words, _EXCERPT)}"
        for hit in hits
    ]
    print_result(rows, lines, json_output)
    if not hits and not json_output:
        complain("Nothing found. Try other words, a name, or a date.")


def _progress(read: int) -> None:
    """A line that grows while messages are read, and goes away at the end (0)."""
    if sys.stderr.isatty():
        text = f"Reading messages for the search index: {read:,}" if read else ""
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


@runs(app, "consolidate")
async def consolidate(
    model: Annotated[str, typer.Option(help="Model to use instead of the configured one.")] = "",
    beside: Annotated[bool, typer.Option("--beside", hidden=True)] = False,
) -> int:
    """Save memories now. Conversations become facts and summaries."""
    from nanobot.app import open_app
    from nanobot.memory.consolidation import count_waiting

    async with open_app(load_and_warn().config, model=model) as app:
        if beside:  # a reply that has ended: one attempt
            await app.memory.remember(most=1, seconds=30)
            return 0
        for notice in app.memory.consolidator.files.complaints():
            complain(notice)
        window = app.config.agents.defaults.memory_window
        before = await count_waiting(app.store, window)
        if before.messages:
            complain(f"{before.messages} messages: asking the model ...")
        await app.memory.run_owed(retry_now=True)
        after = await count_waiting(app.store, window)
    print(f"Consolidated {before.messages - after.messages} messages; {clean(str(after)).rstrip('.')}.")
    return int(bool(after.messages))


@runs(app, "confirm")
async def confirm(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Facts; none: show them.")
    ] = None,
) -> int:
    """List facts that others wrote, or make them yours."""
    from nanobot.memory.files import hold, open_files

    files = open_files(load_and_warn().config.workspace_path)
    async with hold("memory"):
        waiting = {fact.id: fact for fact in files.unconfirmed()}
        for fact in waiting.values() if not ids else ():
            print(one_line(f"{fact.id}: {fact.text} ({' '.join(fact.origin.messages)})", 300))
        for name in ids or ():
            if name in waiting:
                files.confirm(waiting[name])
                print(one_line(f"Remembered: {waiting[name].text}", 300))
    if not ids:
        complain("`nanobot memory confirm ID` remembers one." if waiting else "No fact waits for your word.")
    unknown = [name for name in ids or () if name not in waiting]
    if unknown:
        complain(f"No unconfirmed fact has the id {unknown[0]}. `nanobot memory confirm` shows them.")
    return int(bool(unknown))


@runs(app, "forget")
async def forget(
    wanted: Annotated[str, typer.Argument(metavar="TEXT|ID", help="Words, or an id of a fact or message.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Remove something for good. All that says it is shown first: files, database, index, backups."""
    from nanobot.app import open_app
    from nanobot.memory.forget import ForgetScope

    async with open_app(load_and_warn().config) as app:
        forgetter, scope = app.memory.forgetter, ForgetScope()
        found = await forgetter.find(wanted, scope)
        for line in found.lines():
            print(one_line(line, 200))
        if not found:
            print("No fact, summary, message or job says that.")
        asked = "Remove this for good, with all copies in backups and queues? (y/N) "
        if not yes and not (sys.stdin.isatty() and input(asked).strip().lower() in ("y", "yes")):  # noqa: ASYNC250
            complain("Nothing was forgotten. Confirm with y, or give --yes.")
            return 1
        count = await forgetter.forget(found)
    print(
        f"Forgotten: {len(found.facts)} facts, {len(found.history)} entries of the history, {count} messages;"
        " backups and queues are clean."
    )
    return 0
