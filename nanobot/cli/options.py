"""What several commands share: how they are declared, and --json."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, ParamSpec, TextIO

import typer
from typer.core import TyperGroup

from nanobot.terminal.screen import wrapped

P = ParamSpec("P")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class LazyGroup(TyperGroup):
    """The commands of the Typer app in `nanobot/cli/<name>.py`, imported when one of them is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        self._load()
        return super().get_command(ctx, cmd_name)

    def _load(self) -> None:
        if not self.commands:
            group = typer.main.get_group(importlib.import_module(f"nanobot.cli.{self.name}").app)
            self.commands.update(group.commands)


def new_app(text: str | None = None, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """A group of commands; `text` says in `--help` what it is for."""
    return typer.Typer(
        cls=cls, help=text, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )


def runs(app: typer.Typer, name: str) -> Callable[[Callable[P, Awaitable[int | None]]], object]:
    """Makes a coroutine function the command `name`; what it returns is the exit code, None is 0."""

    def register(function: Callable[P, Awaitable[int | None]]) -> object:
        @app.command(name)
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            import asyncio

            async def wait() -> int | None:
                return await function(*args, **kwargs)

            raise typer.Exit(asyncio.run(wait()) or 0)

        return run

    return register


def print_result(value: object, lines: Iterable[str], as_json: bool, out: TextIO | None = None) -> None:
    """Print `value` as JSON, or else `lines`."""
    if as_json:
        print(json.dumps(value, indent=2), file=out, flush=True)
    elif text := "\n".join(lines):
        say(text, out)


def say(text: str, out: TextIO | None = None) -> None:
    """Print text without what could steer a terminal, and broken at words on one."""
    print(wrapped(text, out or sys.stdout), file=out, flush=True)
