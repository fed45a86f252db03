"""`nanobot mcp`: try the configured MCP servers, and log in at those that want it."""

from __future__ import annotations

import asyncio
import sys
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from nanobot.cli.options import Json, new_app, print_result, say
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.config.schema import Config
from nanobot.mcp.servers import find_server
from nanobot.mcp.source import server_row, summary_of, try_servers
from nanobot.terminal.options import load_and_warn

if TYPE_CHECKING:
    from nanobot.mcp.connection import ServerConnection

app = new_app()
ServerName = Annotated[str, typer.Argument(metavar="NAME", help="Its name in tools.mcpServers.")]

_LIST_SECONDS, _TEST_SECONDS = 15.0, 60.0  # for all servers together, for one


@app.command("list")
def list_servers(json_output: Json = False) -> None:
    """Connect to every server and show how it is doing."""
    config = load_and_warn().config
    servers = config.tools.mcp_servers
    reports = _try(config, dict(servers), _LIST_SECONDS)
    rows = [server_row(name, server, reports.get(name)) for name, server in servers.items()]
    lines = [f"{row['name']}: {summary_of(row)}" for row in rows]
    print_result(rows, lines or ["No MCP servers. Add one to tools.mcpServers in config.json."], json_output)


@app.command("test")
def try_server(name: ServerName, json_output: Json = False) -> None:
    """Connect to one server and show its tools."""
    config = load_and_warn().config
    servers = config.tools.mcp_servers
    server = find_server(servers, name)
    for one in servers.values():
        one.enabled = one is server  # the others count for the names of its tools
    report = _try(config, servers, _TEST_SECONDS).get(name)
    row = server_row(name, server, report)
    tools, skipped = (report.tools, report.skipped) if report else ((), ())
    lines = [f"{name}: {summary_of(row)}"]
    lines += [f"  {tool.name}  {tool.description.split(chr(10))[0][:100]}" for tool in tools]
    lines += [f"  ({tool}: {reason})" for tool, reason in skipped]
    row["tools"] = [{"name": tool.name, "description": tool.description} for tool in tools]
    row["skipped"] = [{"name": tool, "reason": reason} for tool, reason in skipped]
    print_result(row, lines, json_output)
    raise typer.Exit(int(row["state"] != "ready"))


@app.command("login")
def login(
    name: ServerName,
    client_id: Annotated[str, typer.Option(help="Of an app you registered at the service.")] = "",
    client_secret: Annotated[str, typer.Option(help="Its secret; `-` reads it from stdin.")] = "",
    port: Annotated[int, typer.Option(help="Loopback port of the redirect URI.")] = 18791,
    browser: Annotated[bool, typer.Option(help="Open the login page.")] = True,
) -> None:
    """Log in at a remote server that is protected with OAuth."""
    from nanobot.mcp.login import has_screen, log_in, typed_line
    from nanobot.mcp.oauth import BrowserSignIn

    config = load_and_warn().config
    secret = sys.stdin.readline().strip() if client_secret == "-" else client_secret

    async def open_page(url: str) -> None:
        say(f"Log in at {name} in your browser:\n\n{url}\n")
        if sys.stdin.isatty():
            say("If that browser is on another machine, paste the address it ends at here.")
        if browser and has_screen():
            await asyncio.to_thread(webbrowser.open, url)

    sign_in = BrowserSignIn(open_page, typed_line if sys.stdin.isatty() else None)
    done = asyncio.run(
        log_in(
            name,
            find_server(config.tools.mcp_servers, name),
            sign_in,
            allow_private=config.tools.web.allow_private,
            client_id=client_id,
            client_secret=secret,
            port=port,
        )
    )
    say(f"Logged in. Try it: nanobot mcp test {name}" if done else f"{name} works without a login.")


@app.command("logout")
def logout(name: ServerName) -> None:
    """Forget the login of a server."""
    from nanobot.mcp.oauth import Credentials

    done = Credentials(name, find_server(load_and_warn().config.tools.mcp_servers, name).url).delete()
    say(f"The login at {name} is deleted." if done else f"There was no login at {name}.")


def _try(config: Config, servers: dict[str, McpServerConfig], seconds: float) -> dict[str, ServerConnection]:
    if sys.stderr.isatty():
        usable = [name for name, server in servers.items() if server.usable]
        print(f"Connecting to {', '.join(usable) or 'nothing'} ...", file=sys.stderr)
    return asyncio.run(try_servers(servers, config.tools.web.allow_private, seconds))
