"""The command line: every command and its options. What a command does is imported when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nanobot.cli.cron import cron_app
from nanobot.cli.mcp import mcp_app
from nanobot.cli.memory import memory_app
from nanobot.cli.skills import skills_app
from nanobot.errors import NanobotError

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SessionName = Annotated[str, typer.Argument(metavar="SESSION", help="Its key; NAME means cli:NAME.")]


def _group(text: str) -> typer.Typer:
    return typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


app = _group("nanobot: an ultra-lightweight personal AI assistant. --version alone prints its version.")
session_app = _group("Look into past conversations.")
config_app = _group("Describe config.json; `nanobot status` checks it.")
channels_app = _group("See how the chat platforms are doing.")
tools_app = _group("See what the assistant can do.")
outbox_app = _group("Look after messages that could not be delivered.")
app.add_typer(session_app, name="session")
app.add_typer(config_app, name="config")
app.add_typer(memory_app, name="memory")
app.add_typer(cron_app, name="cron")
app.add_typer(skills_app, name="skills")
app.add_typer(mcp_app, name="mcp")
app.add_typer(channels_app, name="channels")
app.add_typer(tools_app, name="tools")
app.add_typer(outbox_app, name="outbox")


@app.command()
def agent(
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask this, print the reply.")] = None,
    session: Annotated[str, typer.Option("--session", "-s", help="Conversation to go on with.")] = "",
    latest: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the latest one.")] = False,
    resume: Annotated[bool, typer.Option("--resume", "-r", help="Choose one from a list.")] = False,
    model: Annotated[str, typer.Option(help="Model to use instead of the configured one.")] = "",
    json_events: Annotated[bool, typer.Option("--json", help="Print one JSON object per event.")] = False,
    markdown: Annotated[bool, typer.Option(help="Format replies on a terminal.")] = True,
    logs: Annotated[bool, typer.Option(help="Print log messages and tool calls to stderr.")] = False,
) -> None:
    """Talk to the assistant: interactively, or once with -m or with text on standard input."""
    from nanobot.terminal.agent import run_agent
    from nanobot.terminal.options import AgentOptions

    options = AgentOptions(message, session, latest, resume, model, json_events, markdown, logs)
    raise typer.Exit(run_agent(options))


@app.command()
def onboard(
    provider: Annotated[str, typer.Option(help="Provider to set up, for example openrouter.")] = "",
    api_key: Annotated[str, typer.Option(help="Its key, seen by other users; `-` reads it from stdin.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = "",
    api_base: Annotated[str, typer.Option(help="Base URL, for providers without a public one.")] = "",
    model: Annotated[str, typer.Option(help="Model to use.")] = "",
    skip_check: Annotated[bool, typer.Option("--skip-check", help="Do not try the model.")] = False,
    non_interactive: Annotated[bool, typer.Option("--non-interactive", help="Ask nothing.")] = False,
) -> None:
    """Set up configuration, workspace and model. Running it again changes only what you answer."""
    from nanobot.cli.onboard import OnboardOptions, run_onboard

    options = OnboardOptions(provider, api_key, api_key_env, api_base, model, skip_check, non_interactive)
    raise typer.Exit(run_onboard(options))


@app.command()
def status(json_output: Json = False) -> None:
    """Show configuration, model, providers, channels and storage, without calling a model."""
    from nanobot.cli.status import run_status

    raise typer.Exit(run_status(as_json=json_output))


@session_app.command("list")
def session_list(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 50,
    json_output: Json = False,
) -> None:
    """List conversations, newest first."""
    from nanobot.cli.sessions import list_sessions

    list_sessions(limit, as_json=json_output)


@session_app.command("show")
def session_show(
    name: SessionName,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many of the last messages.")] = 20,
    json_output: Json = False,
) -> None:
    """Print the last messages of a conversation."""
    from nanobot.cli.sessions import print_session

    print_session(name, "jsonl" if json_output else "md", last=limit)


@session_app.command("rename")
def session_rename(name: SessionName, title: Annotated[str, typer.Argument(metavar="TITLE")]) -> None:
    """Give a conversation a title; its key stays."""
    from nanobot.cli.sessions import rename_session

    rename_session(name, title)


@session_app.command("import")
def session_import(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Add conversations that were exported as JSON Lines, or that an older nanobot wrote."""
    from nanobot.cli.sessions import import_files

    raise typer.Exit(import_files(files))


@session_app.command("export")
def session_export(
    name: SessionName,
    form: Annotated[str, typer.Option("--format", "-f", help="md or jsonl.")] = "md",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File instead of stdout.")] = None,
) -> None:
    """Write a whole conversation as Markdown or JSON Lines."""
    from nanobot.cli.sessions import print_session

    print_session(name, form, output=output)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of config.json."""
    import json

    from nanobot.config.json_schema import config_schema as schema

    print(json.dumps(schema(), indent=2))


gateway_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(gateway_app, name="gateway")


@gateway_app.callback()
def gateway(
    context: typer.Context,
    port: Annotated[int | None, typer.Option("--port", "-p", min=0, max=65535, help="HTTP port.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run what works day and night: channels, schedules, deliveries."""
    if context.invoked_subcommand is None:
        from nanobot.cli.gateway import run_gateway

        raise typer.Exit(run_gateway(port, verbose=verbose))


@gateway_app.command("install")
def gateway_install() -> None:
    """Install and start the gateway as a systemd service of this user."""
    from nanobot.cli.service import install

    raise typer.Exit(install())


@gateway_app.command("uninstall")
def gateway_uninstall() -> None:
    """Stop and remove that service."""
    from nanobot.cli.service import uninstall

    raise typer.Exit(uninstall())


@channels_app.command("status")
def channels_status(json_output: Json = False) -> None:
    """Show which channels are enabled and how they are doing."""
    from nanobot.cli.channels import show_channels

    show_channels(as_json=json_output)


@channels_app.command("login")
def channels_login() -> None:
    """Link WhatsApp."""
    raise NanobotError("WhatsApp is not supported by this version yet. Telegram is, see the README.")


@tools_app.command("list")
def tools_list(json_output: Json = False) -> None:
    """List all tools, where each comes from, and why one was skipped."""
    from nanobot.cli.tools import list_tools

    list_tools(as_json=json_output)


@outbox_app.command("list")
def outbox_list(json_output: Json = False) -> None:
    """List messages that wait or were given up."""
    from nanobot.cli.outbox import list_outbox

    list_outbox(as_json=json_output)


@outbox_app.command("retry")
def outbox_retry() -> None:
    """Try again to deliver what was given up."""
    from nanobot.cli.outbox import retry_parked

    retry_parked()
