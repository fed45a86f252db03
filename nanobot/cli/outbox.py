"""`nanobot outbox`: deliveries that wait or were given up."""

from __future__ import annotations

import asyncio
import dataclasses
import json

from nanobot.cli.sessions import existing_store
from nanobot.store.records import GATEWAY_ROLE, OutboxEntry
from nanobot.terminal.screen import clean, one_line


def list_outbox(*, as_json: bool) -> None:
    entries = asyncio.run(_entries())
    if as_json:
        print(json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        error = f"; last error: {entry.error}" if entry.error else ""
        print(f"{entry.outbox_id}  {entry.state}  {clean(f'{entry.channel}:{entry.chat_id}')}", end="  ")
        print(f"{one_line(entry.text, 60)!r}, failed {entry.attempts} times{clean(error)}")
    if not entries:
        print("Everything was delivered.")


def retry_parked() -> None:
    """Make parked deliveries due again; a running gateway begins at once."""
    print(asyncio.run(_retry()))


async def _entries() -> list[OutboxEntry]:
    async with existing_store() as store:
        return await store.outbox.entries() if store else []


async def _retry() -> str:
    async with existing_store() as store:
        count = await store.outbox.retry_parked() if store else 0
        if store is None or not count:
            return "No delivery was parked."
        running = await store.workers.leader(GATEWAY_ROLE)
    return f"To be delivered now: {count}" + ("." if running else ", as soon as `nanobot gateway` runs.")
