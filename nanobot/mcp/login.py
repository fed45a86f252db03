"""`nanobot mcp login`: a connection that is only made to get tokens."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from copy import copy

from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl

from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import McpError, UsageError
from nanobot.mcp.connection import ServerConnection
from nanobot.mcp.names import ToolNames
from nanobot.mcp.oauth import BrowserSignIn, Credentials
from nanobot.mcp.servers import transport_kinds

CALLBACK_PORT = 18791
_PATIENCE = 600.0  # seconds for a person to log in


async def log_in(
    name: str,
    server: McpServerConfig,
    sign_in: BrowserSignIn,
    *,
    allow_private: Sequence[str] = (),
    client_id: str = "",
    client_secret: str = "",
    port: int = CALLBACK_PORT,
) -> bool:
    """Log in at the server and keep the tokens. False when the server wants no login.

    `client_id` is that of an app registered at the service beforehand, or the https address of a client
    metadata document; without it nanobot registers itself. Raises NanobotError.
    """
    if transport_kinds(name, server) == ("stdio",):
        raise UsageError(f"{name} is a program on this machine; only remote servers have logins.")
    client_url = client_id if client_id.startswith("https://") else None
    credentials = Credentials(name, server.url, sign_in, client_url=client_url, new=True)
    async with sign_in.listening(port, exact=bool(client_id)):
        if client_id and client_url is None:
            await credentials.set_client_info(
                OAuthClientInformationFull(
                    client_id=client_id,
                    client_secret=client_secret or None,
                    token_endpoint_auth_method="client_secret_basic" if client_secret else "none",
                    redirect_uris=[AnyUrl(sign_in.redirect_uri)],
                )
            )
        patient = copy(server)
        patient.startup_timeout = _PATIENCE
        connection = ServerConnection(name, patient, credentials, ToolNames(), allow_private)
        running = asyncio.create_task(connection.run())
        try:
            await connection.settled.wait()
        finally:
            running.cancel()
            await asyncio.wait([running])
            done = credentials.exist()
            if done and connection.state == "ready":
                credentials.keep()
    if connection.error:
        raise McpError(f"MCP server {name}: {connection.error}")
    return done


def has_screen() -> bool:
    """Without one, Python would open a text browser in this terminal."""
    return sys.platform == "darwin" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


async def typed_line() -> str:
    """A line typed in the terminal, without a thread that would outlive the login."""
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()
    loop.add_reader(sys.stdin, lambda: None if line.done() else line.set_result(sys.stdin.readline()))
    try:
        return await line
    finally:
        loop.remove_reader(sys.stdin)
