"""The client that npm `@modelcontextprotocol/conformance` drives: nanobot's MCP code, turn loop and login,
with a scripted model that calls every tool it is offered once.

`conformance client --command "python tests/peers/mcp_conformance_client.py" --suite core` appends the URL
of a server; the scenario's name and secrets come in the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import httpx2

from nanobot.bus.events import ToolFinished
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.mcp.login import log_in
from nanobot.mcp.oauth import BrowserSignIn
from nanobot.mcp.source import McpTools
from nanobot.messages import ToolCall, ToolDefinition
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.agent.harness import play

ALLOWED = ("localhost", "127.0.0.1", "::1")  # the suite's servers, which the owner would list
METADATA_DOCUMENT = "https://conformance-test.local/client-metadata.json"


def example(schema: dict[str, Any]) -> Any:
    return {"number": 2, "integer": 2, "boolean": True, "array": [], "object": {}}.get(
        schema.get("type", ""), "text"
    )


def call_everything(request: ModelRequest) -> Reply:
    """First a call of every tool, then the end."""
    if not request.tools or any(message.role == "tool" for message in request.messages):
        return Reply(text="That was every tool.")
    return Reply(tool_calls=[_call(tool) for tool in request.tools])


def _call(tool: ToolDefinition) -> ToolCall:
    properties = tool.parameters.get("properties", {})
    return ToolCall(f"call_{tool.name}", tool.name, {key: example(part) for key, part in properties.items()})


async def visit(url: str) -> None:
    """The browser of an owner who agrees: the login page sends it on to nanobot's callback."""
    async with httpx2.AsyncClient(follow_redirects=True) as browser:
        await browser.get(url)


@contextlib.asynccontextmanager
async def logged_in(scenario: str, server: McpServerConfig) -> AsyncIterator[BrowserSignIn | None]:
    """For the scenarios that are about logins: `nanobot mcp login`, and somebody there to log in again."""
    if not scenario.startswith("auth/"):
        yield None
        return
    known = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    client_id = METADATA_DOCUMENT if scenario == "auth/basic-cimd" else known.get("client_id", "")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    await log_in(
        "peer",
        server,
        BrowserSignIn(visit),
        allow_private=ALLOWED,
        client_id=client_id,
        client_secret=known.get("client_secret", ""),
        port=port,
    )
    async with BrowserSignIn(visit).listening(port, exact=True) as sign_in:
        yield sign_in


async def main(url: str) -> int:
    server = McpServerConfig(url=url)
    async with logged_in(os.environ.get("MCP_CONFORMANCE_SCENARIO", ""), server) as sign_in:
        mcp = McpTools({"peer": server}, ALLOWED, sign_in)
        try:
            await mcp.wait(20)
            print(mcp.servers())
            played = await play(ScriptedProvider(call_everything), await mcp.tools())
        finally:
            await mcp.aclose()
    print(played.events)
    failed = [event for event in played.of(ToolFinished) if event.outcome != "ok"]
    return int(bool(failed) or played.finished.stop_reason != "done")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["NANOBOT_HOME"] = home
        sys.exit(asyncio.run(main(sys.argv[-1])))
