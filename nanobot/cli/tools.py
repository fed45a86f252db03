"""`nanobot tools`: what the assistant can do, and what it cannot because something is wrong."""

from __future__ import annotations

import logging

from nanobot.agent.tools.registry import ToolReport
from nanobot.app import open_app
from nanobot.cli.options import Json, new_app, print_result, runs
from nanobot.columns import table
from nanobot.terminal.options import load_and_warn
from nanobot.terminal.screen import take_stdout

app = new_app()


@runs(app, "list")
async def list_tools(json_output: Json = False) -> None:
    """List all tools, where each comes from, and why one was skipped."""
    logging.getLogger("nanobot").addHandler(logging.NullHandler())  # told below, in one line each
    out, config = take_stdout(), load_and_warn().config
    async with open_app(config) as opened:
        reports = await opened.tools.report()
    if not config.tools.exec.enabled:
        reports.append(ToolReport("exec", "built-in", "tools.exec.enabled is false"))
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
