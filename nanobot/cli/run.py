"""The edge of the command line: one command, its exit code, and its errors as lines on stderr."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nanobot import paths
from nanobot.errors import NanobotError, NoProviderError, SetUpAsked, UsageError

if TYPE_CHECKING:
    from nanobot.terminal.options import AgentOptions


def _port(word: str) -> int:
    """Raises ValueError."""
    if not 0 <= (number := int(word)) <= 65535:
        raise ValueError
    return number


# `agent` and `gateway` when their options are written plainly: option, parameter, its value or what makes it
# of the next word. Typer, which knows all commands and spellings, takes as long as the rest of a short turn.
PLAIN_OPTIONS: dict[str, dict[str, tuple[str, Literal[True] | Callable[[str], object]]]] = {
    "agent": {
        "--message": ("message", str),
        "-m": ("message", str),
        "--session": ("session", str),
        "-s": ("session", str),
        "--continue": ("latest", True),
        "-c": ("latest", True),
        "--resume": ("resume", True),
        "-r": ("resume", True),
        "--model": ("model", str),
        "--json": ("json_events", True),
    },
    "gateway": {
        "--port": ("port", _port),
        "-p": ("port", _port),
        "--verbose": ("verbose", True),
        "-v": ("verbose", True),
    },
}


def run() -> int:
    """Run the command line of this process and return its exit code.

    The one place where an expected error becomes a line on stderr.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us; the next file must not get its number
            setattr(sys, name, Path(os.devnull).open("r+"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = _run_command(sys.argv[1:])
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except NanobotError as error:
        from nanobot.terminal.screen import complain

        complain(f"Error: {error}")
        code = 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        code = _output_failed(error)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _output_failed(error)
    return code


def _run_command(words: list[str]) -> int:
    if not words and sys.stdin.isatty() and sys.stdout.isatty():
        words = ["agent"]
    options = plain_options(words)
    if options is None:
        from nanobot.cli.main import app

        app(obj=talk)  # raises SystemExit
        return 0
    if words[0] == "agent":
        from nanobot.terminal.options import AgentOptions

        return talk(AgentOptions(**options))
    from nanobot.cli.gateway import run_gateway

    return run_gateway(**options)


def talk(options: AgentOptions) -> int:
    """One reply or a conversation; returns the exit code. Where no model is set up, or /connect asks for one,
    the wizard comes first.
    """
    from nanobot.terminal.agent import run_agent

    while True:
        unanswered: int | None = 130
        try:
            return run_agent(options)
        except SetUpAsked as asked:
            options, unanswered = replace(options, session=asked.args[0], latest=False, resume=False), None
        except NoProviderError as error:
            asks = sys.stdin.isatty() and sys.stdout.isatty() and not options.json_events
            if not asks or options.model:
                raise
            print(error if paths.config_file().exists() else "Welcome to nanobot. There is no model yet.")
        from nanobot.cli.onboard import connect

        if model := connect():
            options = replace(options, model=model)
        elif unanswered:
            return unanswered


def plain_options(words: list[str]) -> dict[str, Any] | None:
    """The parameters of a command in PLAIN_OPTIONS, or None when Typer must see to it."""
    rest, options = iter(words[1:]), dict[str, Any]()
    try:
        known = PLAIN_OPTIONS[words[0]]
        for word in rest:
            name, value = known[word]
            options[name] = value(next(rest)) if callable(value) else value
    except (LookupError, StopIteration, ValueError):
        return None
    return options


def _output_failed(error: OSError) -> int:
    """Standard output is closed, which is quiet, or its disk is full. Anything else is a bug."""
    if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO):
        raise error
    if error.errno != errno.EPIPE:
        print(f"Error: The output cannot be written: {error.strerror}.", file=sys.stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
