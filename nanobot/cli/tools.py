"""`nanobot tools`: what the assistant can do, and what it cannot because something is wrong."""

from __future__ import annotations

import asyncio
import logging

from nanobot.agent.tools.registry import ToolReport
from nanobot.app import open_app
from nanobot.cli.options import Json, new_app, print_result
from nanobot.columns import table
from nanobot.config.schema import Config
from nanobot.terminal.options import load_and_warn
from nanobot.terminal.screen import take_stdout

app = new_app()


@app.command("list")
def list_tools(json_output: Json = False) -> None:
    """List all tools, where each comes from, and why one was skipped."""
    logging.getLogger("nanobot").addHandler(logging.NullHandler())  # told below, in one line each
    out = take_stdout()
    reports = asyncio.run(_reports(load_and_warn().config))
    rows = [
        {
            "name": report.name or None,
            "source": report.origin,
            "status": "skipped" if report.skipped else "ok",
            "reason": report.skipped,
        }
        for report in reports
    ]
    lines = table((it.name or "-", it.origin, it.skipped and f"skipped: {it.skipped}") for it in reports)
    print_result(rows, lines, json_output, out)


async def _reports(config: Config) -> list[ToolReport]:
    async with open_app(config) as app:
        reports = await app.tools.report()
    if not config.tools.exec.enabled:
        reports.append(ToolReport("exec", "built-in", "tools.exec.enabled is false"))
    return reports
