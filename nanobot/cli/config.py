"""`nanobot config`: what config.json may hold."""

from __future__ import annotations

from nanobot.cli.options import new_app, print_result
from nanobot.config.json_schema import config_schema

app = new_app()


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of config.json."""
    print_result(config_schema(), (), as_json=True)
