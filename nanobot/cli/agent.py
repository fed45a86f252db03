"""`nanobot agent`, with the questions that set up a model where they are needed."""

from __future__ import annotations

import sys
from dataclasses import replace

from nanobot import paths
from nanobot.errors import NoProviderError, SetUpAsked
from nanobot.terminal.agent import run_agent
from nanobot.terminal.options import AgentOptions


def talk(options: AgentOptions) -> int:
    """One reply or a conversation; returns the exit code. Where no model is set up, or /connect asks for one,
    the wizard comes first.
    """
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
