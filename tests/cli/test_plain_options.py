"""The options that are read without Typer: they mean what Typer says, and all else is left to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer.main

from nanobot.cli.main import app
from nanobot.cli.run import PLAIN_OPTIONS, plain_options
from tests.cli.conftest import Nanobot


def read_by_typer(words: list[str]) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    command = command.commands[words[0]]
    params: dict[str, Any] = command.make_context(words[0], words[1:], resilient_parsing=False).params
    return params


PLAIN = [
    ["agent", "-m", "hello"],
    ["agent", "-m", "-c"],
    ["agent", "-m", ""],
    ["agent", "--message", "a", "-s", "b", "--model", "c", "--json", "-c", "-r"],
    ["agent", "-m", "one", "-m", "two"],
    ["agent"],
    ["gateway"],
    ["gateway", "-v"],
    ["gateway", "--port", "0", "-p", "65535"],
]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_plain_options_mean_what_typer_says(words: list[str]) -> None:
    plain = plain_options(words)
    assert plain is not None
    read = read_by_typer(words)
    assert read == {name: parameter.default for name, parameter in parameters(words[0]).items()} | plain


def parameters(name: str) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    return {parameter.name: parameter for parameter in command.commands[name].params}


@pytest.mark.parametrize("name", PLAIN_OPTIONS)
def test_every_spelling_is_one_of_typers(name: str) -> None:
    declared = parameters(name)
    for word, (parameter, value) in PLAIN_OPTIONS[name].items():
        option = declared[parameter]
        assert word in option.opts
        assert option.is_flag != callable(value)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["status"],
        ["agent", "--help"],
        ["agent", "-m"],
        ["agent", "-mhello"],
        ["agent", "--message=hello"],
        ["agent", "--nonsense"],
        ["agent", "--no-markdown"],
        ["agent", "hello"],
        ["gateway", "install"],
        ["gateway", "--port", "many"],
        ["gateway", "--port", "65536"],
        ["gateway", "-p"],
    ],
    ids=" ".join,
)
def test_everything_else_is_left_to_typer(words: list[str]) -> None:
    assert plain_options(words) is None


CRON = ["cron", "add", "-n", "x", "-m", "y", "--every", "60", "-d", "--channel", "telegram", "--to", "1"]


@pytest.mark.parametrize(
    "command",
    [CRON, ["skills", "list"], ["tools", "list"], ["mcp", "list"], ["channels", "status"], ["onboard"]],
)
def test_what_is_odd_in_the_configuration_is_told_once(nanobot: Nanobot, command: list[str]) -> None:
    nanobot.home.mkdir()
    (nanobot.home / "config.json").write_text(json.dumps({"agents": {"default": {}}}))
    done = nanobot.run(*command)
    assert done.stderr.count("Warning: agents.default: unknown key, did you mean defaults?") == 1
