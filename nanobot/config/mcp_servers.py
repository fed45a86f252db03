"""MCP servers in config.json, also in the words of Claude, Cursor, VS Code, Codex, Windsurf and Gemini."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from nanobot.config.json_text import to_camel
from nanobot.config.section import Section, key

_BARE = re.compile(r"(Bearer )?\$([A-Za-z_][A-Za-z0-9_]*)")
_PLACES = ("mcpServers", "mcp_servers", "servers", "mcp")
INPUTS = {"inputs": "asked for by VS Code alone; write ${NAME}, an environment variable, for ${input:...}"}


class McpServerConfig(Section):
    alone: ClassVar[str] = "this server is off"
    hints: ClassVar[Mapping[str, str]] = {
        "timeout": "whose unit differs between programs; write toolTimeout, in seconds",
        "startupTimeoutMs": "write startupTimeout, in seconds",
        "oauth": "log in with `nanobot mcp login`",
        "auth": "log in with `nanobot mcp login`",
        "bearerToken": 'write "headers": {"Authorization": "Bearer ..."}',
    }
    command: str = key("", "Program to start (stdio).")
    args: list[str] = key([], "Its arguments.", secret=True)
    env: dict[str, str] = key(
        {}, "Its environment, beyond the safe basics.", secret=True, also=("environment",)
    )
    env_file: str = key("", "File with more of it, as lines NAME=value.")
    cwd: str = key("", "Folder it runs in; empty: your home.")
    url: str = key("", "Address of a remote server.", secret=True, also=("serverUrl", "httpUrl"))
    headers: dict[str, str] = key({}, "Headers of every request to it.", secret=True, also=("httpHeaders",))
    type: str = key(
        "", "`stdio`, `http` or `sse`; empty: from command or url.", also=("transport", "transportType")
    )
    startup_timeout: float = key(60, "Longest time of a start (s).", also=("startupTimeoutSec",), gt=0)
    tool_timeout: float = key(30, "Longest time of one call (s).", also=("toolTimeoutSec",), gt=0)
    enabled: bool = key(True, "Whether the server is used.")
    auto_approve: list[str] = key([], "Read from other programs' entries; not used.", also=("alwaysAllow",))
    enabled_tools: list[str] | None = key(None, "Tools that are offered; null: all.", also=("includeTools",))
    disabled_tools: list[str] = key([], "Tools that are not offered.", also=("excludeTools",))

    @classmethod
    def adopt(cls, data: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
        entry = {name: value for name, value in data.items() if value is not None}
        written = {to_camel(name): name for name in entry}

        def take(key: str, kind: type) -> Any:
            return entry.pop(written[key]) if isinstance(entry.get(written.get(key, "")), kind) else kind()

        if command := take("command", list):  # in one list with its arguments
            entry |= {"command": command[0], "args": command[1:] + take("args", list)}
        headers = {name: f"${variable}" for name, variable in take("envHttpHeaders", dict).items()}
        if variable := take("bearerTokenEnvVar", str):
            headers["Authorization"] = f"Bearer ${variable}"
        headers |= take("httpHeaders", dict) | take("headers", dict)
        env = {name: f"${name}" for name in map(str, take("envVars", list))}
        env |= take("environment", dict) | take("env", dict)
        for name, texts in (("headers", headers), ("env", env)):
            if texts:
                entry[name] = {one: _braced(text) for one, text in texts.items()}
        if tools := take("tools", list):
            entry["enabledTools"] = tools
        return entry

    @property
    def usable(self) -> bool:
        """Whether it is to be started."""
        return self.enabled and not self.fault


def _braced(text: Any) -> Any:
    """`$NAME`, alone or behind "Bearer ", as ${NAME}."""
    found = _BARE.fullmatch(text) if isinstance(text, str) else None
    return f"{found[1] or ''}${{{found[2]}}}" if found else text


def gather_servers(data: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
    """config.json with all servers in tools.mcpServers, also those of another program's file that was pasted
    beside or into tools, or into tools.mcpServers.
    """
    tools = data.get("tools", {})
    if not isinstance(tools, dict):
        return data
    place = "mcp_servers" if "mcp_servers" in tools else "mcpServers"
    servers: dict[str, Any] = {}

    def gather(entries: dict[str, Any]) -> dict[str, Any]:
        """Take the servers out; the rest is returned."""
        rest = {}
        for name, entry in entries.items():
            if name not in _PLACES or not isinstance(entry, dict) or {"command", "url"} & entry.keys():
                rest[name] = entry
                continue
            for server, value in gather(entry).items():
                if server in servers:
                    warnings.append(f"tools.mcpServers.{server}: given in two places, the first one counts")
                elif server != "inputs":
                    servers[server] = value
        return rest

    tools, data = gather(tools), gather(data)
    if servers and place not in tools:
        data["tools"] = {**tools, place: servers}
    return data
