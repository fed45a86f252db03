"""MCP servers as tools. Only what is imported here is ever loaded when no server is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanobot.config.schema import Config
    from nanobot.mcp.source import McpTools


def configured_servers(config: Config) -> McpTools | None:
    """The tools of the servers that are switched on, not started yet; None when there are none."""
    if not any(server.usable for server in config.tools.mcp_servers.values()):
        return None
    from nanobot.mcp.source import McpTools

    return McpTools(config.tools.mcp_servers, config.tools.web.allow_private)
