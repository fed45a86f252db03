"""What `nanobot mcp list` and `test` say about servers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.servers import address_of
from nanobot.mcp.source import McpTools, ServerReport


async def try_servers(
    servers: Mapping[str, McpServerConfig], allow_private: Sequence[str], seconds: float
) -> dict[str, ServerReport]:
    """Connect to the servers side by side; what is ready or failed within so many seconds."""
    logging.getLogger("nanobot.mcp").addHandler(logging.NullHandler())  # the report says it in one line
    tools = McpTools(servers, allow_private)
    try:
        await tools.wait(seconds)
        return {report.name: report for report in tools.servers()}
    finally:
        await tools.aclose()


def server_row(name: str, server: McpServerConfig, report: ServerReport | None) -> dict[str, Any]:
    """A server as JSON; `report` is None for one that was not tried."""
    state = report.state if report else "failed" if server.usable else "off"
    error = report.error if report else server.fault
    if state == "starting":
        state, error = "failed", "it did not answer in time."
    return {
        "name": name,
        "address": address_of(server),
        "state": state,
        "error": error,
        "tools": len(report.tools) if report else 0,
        "connect_seconds": round(report.connect_seconds, 3) if report else None,
    }


def summary_of(row: dict[str, Any]) -> str:
    """A row in words."""
    if row["state"] == "ready":
        milliseconds = round(1000 * row["connect_seconds"])
        return f"ready at {row['address']}, {row['tools']} tools, connected in {milliseconds} ms"
    if row["state"] == "needs login":
        return f"{row['error']} ({row['address']})"
    return f"{row['state']} ({row['address']}){': ' + row['error'] if row['error'] else ''}"
