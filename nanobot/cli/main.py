"""Every command of the command line. A group of commands has a file of its own name beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from nanobot.cli.completion import names_of
from nanobot.cli.options import Json, LazyGroup, new_app
from nanobot.errors import ProviderError

_MODEL = typer.Option(help="Model to use instead of the configured one.", autocompletion=names_of("models"))

app = new_app("nanobot: an ultra-lightweight personal AI assistant. Alone it begins a conversation.")
for name, text in {
    "session": "Manage conversations.",
    "config": "Set a key of config.json, or describe all keys.",
    "memory": "Manage memory.",
    "cron": "Manage scheduled jobs.",
    "skills": "Manage skills: instructions for kinds of tasks.",
    "mcp": "Test MCP servers, log in to them.",
    "channels": "Show the state of the chat platforms.",
    "tools": "List the tools of the assistant.",
    "outbox": "List and retry messages that could not be delivered.",
}.items():
    app.add_typer(new_app(text, LazyGroup), name=name)


@app.command()
def agent(
    context: typer.Context,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask this, print the reply.")] = None,
    session: Annotated[
        str,
        typer.Option(
            "--session", "-s", help="Conversation to go on with.", autocompletion=names_of("sessions")
        ),
    ] = "",
    latest: Annotated[bool, typer.Option("--continue", "-c", help="Go on with the latest one.")] = False,
    resume: Annotated[bool, typer.Option("--resume", "-r", help="Choose one from a list.")] = False,
    model: Annotated[str, _MODEL] = "",
    json_events: Annotated[bool, typer.Option("--json", help="Print one JSON object per event.")] = False,
    markdown: Annotated[bool, typer.Option(help="Format replies on a terminal.")] = True,
    logs: Annotated[bool, typer.Option(help="Print log messages and tool calls to stderr.")] = False,
) -> None:
    """Talk to the assistant; with -m or standard input, for one reply."""
    from nanobot.terminal.options import AgentOptions

    options = AgentOptions(message, session, latest, resume, model, json_events, markdown, logs)
    raise typer.Exit(context.obj(options))


@app.command()
def onboard(
    provider: Annotated[str, typer.Option(help="Provider to set up, for example openrouter.")] = "",
    api_key: Annotated[
        str, typer.Option(help="API key, which other users can see here; `-` reads it from stdin.")
    ] = "",
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
    """Show what is ready, without calling a model."""
    from nanobot.cli.status import run_status

    raise typer.Exit(run_status(as_json=json_output))


@app.command()
def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair files and their modes; config.json is copied first.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Ask the providers whether they take the keys.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Look for what is wrong, and say how to repair it."""
    from nanobot.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(fix=fix, live=live, as_json=json_output))


provider_app = new_app("Log in to providers that take a login instead of a key.")
app.add_typer(provider_app, name="provider")


@provider_app.command("login")
def provider_login(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Log in to openai-codex or github-copilot. Not in this version yet."""
    raise ProviderError(
        f"A login to {name} is to come, and not in this version. What works now is a provider with an API "
        "key, or a model server of your own: nanobot onboard."
    )


gateway_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(gateway_app, name="gateway")


@gateway_app.callback()
def gateway(
    context: typer.Context,
    port: Annotated[int | None, typer.Option("--port", "-p", min=0, max=65535, help="HTTP port.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the always-on service: chats, schedules, deliveries."""
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
