"""What several commands share: how they are declared, and --json."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from nanobot.terminal.screen import clean

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


def print_result(value: object, lines: Iterable[str], as_json: bool, out: TextIO | None = None) -> None:
    """Print `value` as JSON, or else `lines`, without what could steer the terminal."""
    text = json.dumps(value, indent=2) if as_json else "\n".join(map(clean, lines))
    if text:
        print(text, file=out, flush=True)
