"""What a server's tools are to a model: named, described and chosen as the owner configured."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from nanobot.agent.tools import Tool, ToolOutput
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.names import DESCRIPTION_CHARS, LISTED, ToolNames, fit_schema, printable_text

if TYPE_CHECKING:
    import mcp_types as types

log = logging.getLogger(__name__)

Call = Callable[[str, dict[str, Any]], Awaitable[ToolOutput]]  # with the server's own names


class McpTool(Tool):
    """One tool of a server. What the server claims about it decides only whether calls may run side by
    side (readOnlyHint) and again after a crash (readOnlyHint, idempotentHint), which concerns it alone."""

    name = description = ""  # each tool has its own, as its schema
    parameters: dict[str, Any] = {}  # noqa: RUF012
    errors_are_text = False
    origin = "mcp"

    def __init__(self, name: str, remote: types.Tool, call: Call) -> None:
        self.name = name
        self._call = call
        self._remote = remote.name
        self.description = printable_text(remote.description or remote.title or "", DESCRIPTION_CHARS)
        self.description = self.description or remote.name
        self.parameters, self._real_names = fit_schema(remote.input_schema[LISTED])
        self.read_only = bool(remote.annotations and remote.annotations.read_only_hint)
        self.repeatable = self.read_only or bool(remote.annotations and remote.annotations.idempotent_hint)

    async def execute(self, /, **arguments: Any) -> ToolOutput:
        return await self._call(
            self._remote, {self._real_names.get(key, key): value for key, value in arguments.items()}
        )


def choose(
    server_name: str, server: McpServerConfig, listed: Sequence[types.Tool], names: ToolNames, call: Call
) -> tuple[tuple[Tool, ...], tuple[tuple[str, str], ...]]:
    """The tools of a server that are offered, and the names of others with the reason why they are not."""
    tools: dict[str, Tool] = {}
    skipped: list[tuple[str, str]] = []
    enabled, disabled, known = server.enabled_tools, server.disabled_tools, {"*"}
    for remote in listed:
        name = names.name(server_name, remote.name)
        spellings = {remote.name, name}
        known |= spellings
        if enabled is not None and not {"*", *spellings} & {*enabled}:
            skipped.append((remote.name, "not in enabledTools"))
        elif spellings & {*disabled}:
            skipped.append((remote.name, "in disabledTools"))
        elif name in tools:
            skipped.append((remote.name, "listed twice"))
        else:
            tools[name] = McpTool(name, remote, call)
    for key, wanted in (("enabledTools", enabled or ()), ("disabledTools", disabled)):
        for name in (printable_text(name, 64) for name in wanted if listed and name not in known):
            skipped.append((name, f"in {key}, but unknown to the server"))
            log.warning("MCP server %s does not have %s, which its %s names.", server_name, name, key)
    return tuple(tools.values()), tuple(skipped)
