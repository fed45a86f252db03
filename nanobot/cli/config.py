"""`nanobot config`: schema, path and check."""

from __future__ import annotations

import json

from nanobot import paths
from nanobot.cli.screen import clean, complain
from nanobot.config.loader import config_schema, load_config
from nanobot.errors import NanobotError


def print_schema() -> None:
    print(json.dumps(config_schema(), indent=2))


def print_path() -> None:
    print(paths.config_file())


def check_config(*, as_json: bool) -> int:
    """Report problems and warnings; 1 when the configuration cannot be used."""
    error, warnings, exists = "", [], paths.config_file().exists()
    try:
        loaded = load_config()
        warnings, exists = list(loaded.warnings), loaded.exists
    except NanobotError as problem:
        error = str(problem)
    if as_json:
        report = {
            "path": str(paths.config_file()),
            "exists": exists,
            "error": error,
            "warnings": warnings,
        }
        print(json.dumps(report, indent=2))
        return int(bool(error))
    for warning in warnings:
        complain(f"Warning: {warning}")
    if error:
        complain(f"Error: {error}")
        return 1
    state = "is in order" if exists else "does not exist, so all defaults apply"
    print(clean(f"{paths.config_file()} {state}."))
    return 0
