"""`nanobot outbox`: deliveries that wait or were given up."""

from __future__ import annotations

from nanobot.cli.options import Json, new_app, print_result, runs
from nanobot.cli.storage import existing_store
from nanobot.columns import table
from nanobot.terminal.screen import one_line

app = new_app()


@runs(app, "list")
async def list_outbox(json_output: Json = False) -> None:
    """List messages that wait or were given up."""
    async with existing_store() as store:
        entries = await store.outbox.entries() if store else []
    rows = []
    for entry in entries:
        error = f"; last error: {entry.error}" if entry.error else ""
        text = f"{one_line(entry.text, 60)!r}, failed {entry.attempts} times{error}"
        state = "given up" if entry.state == "parked" else entry.state
        rows.append((str(entry.outbox_id), state, f"{entry.channel}:{entry.chat_id}", text))
    lines = table(rows) or ["Everything was delivered."]
    print_result([entry._asdict() for entry in entries], lines, json_output)


@runs(app, "retry")
async def retry_parked() -> None:
    """Try again to deliver what was given up."""
    async with existing_store() as store:
        count = await store.outbox.retry_parked() if store else 0
        running = store and await store.workers.leader()
    when = "." if running else ", as soon as `nanobot gateway` runs."
    print(f"To be delivered now: {count}{when}" if count else "Nothing was given up.")
