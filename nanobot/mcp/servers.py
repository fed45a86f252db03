"""What the configuration says about an MCP server, judged without the SDK and without connecting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import ConfigError, UsageError
from nanobot.mcp.names import MESSAGE_CHARS, printable_text

TransportKind = Literal["stdio", "http", "sse"]

_TYPES: dict[str, TransportKind] = {"stdio": "stdio", "local": "stdio", "http": "http", "sse": "sse"}
_TYPES |= {"streamablehttp": "http", "streaminghttp": "http"}
_SECRET_FLAG = re.compile(r"key|token|secret|passw|auth|header", re.IGNORECASE)
_SHORTEST_SECRET = 6  # characters; hiding shorter values would garble words


def transport_kinds(name: str, server: McpServerConfig) -> tuple[TransportKind, ...]:
    """How to reach the server, in the order in which to try.

    A URL without `type` may be streamable HTTP or the older HTTP with SSE; the second is tried when the
    server refuses the first (MCP 2025-11-25, "Transports", backwards compatibility). Raises ConfigError.
    """
    place, kind, url = f"tools.mcpServers.{name}", _kind(server), server.url
    if server.fault:
        raise ConfigError(f"{server.fault}.")
    if server.type and kind is None:
        raise ConfigError(f'{place}.type is unknown. Write "stdio", "http" or "sse", or leave it out.')
    if not server.command and not url:
        raise ConfigError(
            f"{place} has neither command nor url. Give command and args for a program on this machine, "
            "or url for a remote server."
        )
    if kind == "stdio" and not server.command:
        raise ConfigError(f'{place}.type is "stdio", but there is no command. Add it.')
    if kind == "stdio" or (kind is None and server.command):
        return ("stdio",)
    if not _is_web_address(url):
        raise ConfigError(f"{place}.url is missing or no http:// or https:// address. Correct it.")
    if kind is not None:
        return (kind,)
    return ("sse", "http") if urlsplit(url).path.rstrip("/").endswith("/sse") else ("http", "sse")


def _kind(server: McpServerConfig) -> TransportKind | None:
    return _TYPES.get(re.sub(r"[-_ ]", "", server.type).lower())


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def server_problem(name: str, server: McpServerConfig) -> str:
    """What is wrong with the entry, and what to do; "" when it can be tried."""
    try:
        transport_kinds(name, server)
    except ConfigError as error:
        return str(error)
    return ""


def with_env_file(name: str, server: McpServerConfig) -> McpServerConfig:
    """The entry with the lines of its envFile in its environment, where that does not say otherwise.

    Raises ConfigError.
    """
    if not server.env_file:
        return server
    try:
        lines = Path(server.env_file).expanduser().read_text("utf-8-sig").splitlines()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"tools.mcpServers.{name}.envFile cannot be read: {error}. Correct it.") from error
    found = {}
    for line in lines:
        variable, _, value = (part.strip() for part in line.strip().removeprefix("export ").partition("="))
        if "=" in line and variable and not variable.startswith("#"):
            is_quoted = len(value) > 1 and value[0] in "'\"" and value[0] == value[-1]
            found[variable] = value[1:-1] if is_quoted else value.partition(" #")[0].rstrip()
    whole = copy(server)
    whole.env = found | server.env
    return whole


def address_of(server: McpServerConfig) -> str:
    """Where the server is, without anything that may be secret: program, or scheme, host and port."""
    if server.command and _kind(server) in (None, "stdio"):
        return server.command.partition(" ")[0].rsplit("/", 1)[-1]  # a whole command line may hold a key
    if not _is_web_address(server.url):
        return "?"
    parts = urlsplit(server.url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"


def scrubbed(text: str, server: McpServerConfig) -> str:
    """`text` without the secrets in the server's headers, environment, arguments and URL."""
    for value in sorted(_secrets(server), key=len, reverse=True):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


def safe_text(text: str, server: McpServerConfig) -> str:
    """What a server said, fit to be shown: without secrets and control characters, and not too long."""
    return printable_text(scrubbed(text, server), MESSAGE_CHARS)


def _secrets(server: McpServerConfig) -> set[str]:
    url = urlsplit(server.url if _is_web_address(server.url) else "")
    found = {
        *server.env.values(),
        *server.headers.values(),
        url.query,
        url.username or "",
        url.password or "",
    }
    found |= {value.rpartition(" ")[2] for value in server.headers.values()}  # the token of "Bearer token"
    found |= {value for _, value in parse_qsl(url.query)}
    found |= {piece for piece in url.path.split("/") if len(piece) > 15}
    for flag, value in zip(["", *server.args], server.args, strict=False):
        name, _, given = value.rpartition("=")
        if _SECRET_FLAG.search(flag) and not value.startswith("-"):
            found.add(value)
        elif _SECRET_FLAG.search(name):
            found.add(given)
    return found


def find_server(servers: Mapping[str, McpServerConfig], name: str) -> McpServerConfig:
    """Raises UsageError naming those there are."""
    if name not in servers:
        known = ", ".join(servers) or "none"
        raise UsageError(f"There is no MCP server {name!r} in tools.mcpServers. Configured: {known}.")
    return servers[name]


def entries_of(servers: Mapping[str, McpServerConfig]) -> dict[str, Any]:
    """What `nanobot status` knows of the servers without connecting."""
    return {
        name: {"enabled": server.usable, "problem": server_problem(name, server)}
        for name, server in servers.items()
    }


def lines_about(entries: Mapping[str, Any]) -> list[str]:
    """`entries_of` in words: the names, then what is wrong."""
    names = [name if about["enabled"] else f"{name} (off)" for name, about in entries.items()]
    wrong = [about["problem"] for about in entries.values() if about["enabled"] and about["problem"]]
    return [", ".join(names), *wrong] if names else []
