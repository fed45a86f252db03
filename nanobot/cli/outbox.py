"""`nanobot outbox`: deliveries that wait or were given up."""

from __future__ import annotations

import asyncio

from nanobot.cli.options import Json, new_app, print_result
from nanobot.cli.storage import existing_store
from nanobot.columns import table
from nanobot.store.records import OutboxEntry
from nanobot.terminal.screen import one_line

app = new_app()


@app.command("list")
def list_outbox(json_output: Json = False) -> None:
    """List messages that wait or were given up."""
    entries = asyncio.run(_entries())
    rows = []
    for entry in entries:
        error = f"; last error: {entry.error}" if entry.error else ""
        text = f"{one_line(entry.text, 60)!r}, failed {entry.attempts} times{error}"
        state = "given up" if entry.state == "parked" else entry.state
        rows.append((str(entry.outbox_id), state, f"{entry.channel}:{entry.chat_id}", text))
    lines = table(rows) or ["Everything was delivered."]
    print_result([entry._asdict() for entry in entries], lines, json_output)


@app.command("retry")
def retry_parked() -> None:
    """Try again to deliver what was given up."""
    print(asyncio.run(_retry()))


async def _entries() -> list[OutboxEntry]:
    async with existing_store() as store:
        return await store.outbox.entries() if store else []


async def _retry() -> str:
    async with existing_store() as store:
        count = await store.outbox.retry_parked() if store else 0
        if store is None or not count:
            return "Nothing was given up."
        running = await store.workers.leader()
    return f"To be delivered now: {count}" + ("." if running else ", as soon as `nanobot gateway` runs.")
