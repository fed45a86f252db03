"""`nanobot config`: what config.json may hold, and setting a key of it."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Annotated

import typer

from nanobot import paths
from nanobot.cli.options import new_app, print_result
from nanobot.config.json_schema import config_schema
from nanobot.config.loader import update_config_file

app = new_app()


@app.command("set")
def set_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="For example agents.defaults.model.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text or JSON; `-` reads it from stdin.")],
) -> None:
    """Set one key of config.json; the rest of the file stays as it is."""
    given: object = sys.stdin.read().strip() if value == "-" else value
    with contextlib.suppress(ValueError):
        given = json.loads(str(given))
    update_config_file(paths.config_file(), {key: given})
    print(f"{key} is set in {paths.config_file()}. A running gateway reads it when it starts again.")


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of config.json."""
    print_result(config_schema(), (), as_json=True)
