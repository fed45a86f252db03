"""`nanobot tools`: what the assistant can do, and what it cannot because something is wrong."""

from __future__ import annotations

import asyncio
import json
import logging

from nanobot.agent.tools.registry import ToolReport
from nanobot.app import open_app
from nanobot.config.schema import Config
from nanobot.terminal.config import load_and_warn
from nanobot.terminal.screen import clean, take_stdout


def list_tools(*, as_json: bool) -> None:
    """Load plugins and show every tool; calls no model."""
    logging.getLogger("nanobot").addHandler(logging.NullHandler())  # told below, in one line each
    out = take_stdout()
    reports = asyncio.run(_reports(load_and_warn().config))
    if as_json:
        rows = [
            {
                "name": report.name or None,
                "source": report.origin,
                "status": "skipped" if report.skipped else "ok",
                "reason": report.skipped,
            }
            for report in reports
        ]
        print(json.dumps(rows, indent=2), file=out, flush=True)
        return
    name_width = max(len(report.name) for report in reports)
    origin_width = max(len(report.origin) for report in reports)
    for report in reports:
        skipped = f"skipped: {report.skipped}" if report.skipped else ""
        line = f"{report.name or '-':<{name_width}}  {report.origin:<{origin_width}}  {skipped}"
        print(clean(line).rstrip(), file=out, flush=True)


async def _reports(config: Config) -> list[ToolReport]:
    async with open_app(config) as app:
        reports = await app.tools.report()
    if not config.tools.exec.enabled:
        reports.append(ToolReport("exec", "built-in", "tools.exec.enabled is false"))
    return reports
