"""Where `nanobot agent` begins: one reply, or a conversation."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from nanobot.bus.events import failed
from nanobot.errors import NanobotError, UsageError
from nanobot.terminal.once import answer_once
from nanobot.terminal.options import AgentOptions
from nanobot.terminal.render import JsonRenderer
from nanobot.terminal.screen import complain, take_stdout, terminal_is_smart


def run_agent(options: AgentOptions) -> int:
    """One reply or a conversation; returns the exit code. Raises NanobotError before a turn began."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # now that everything is imported
    handler = _Shown() if options.logs else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO if options.logs else logging.CRITICAL, handlers=[handler])
    if not options.logs:
        for name in ("nanobot.plugins.folder", "nanobot.tools.shell"):
            logging.getLogger(name).setLevel(logging.WARNING)
            logging.getLogger(name).addHandler(_Shown())
    if bool(options.session) + options.latest + options.resume > 1:
        raise UsageError("--session, --continue and --resume exclude each other. Give one of them.")
    if options.resume and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("--resume asks in a terminal. Without one, name the conversation with --session.")
    if options.message is None and sys.stdin.isatty() and not options.json_events:
        from nanobot.terminal.interactive import converse

        return converse(options)
    out = sys.stdout if terminal_is_smart() and not options.json_events else take_stdout()
    try:
        return asyncio.run(answer_once(options, out))
    except asyncio.CancelledError:  # before the turn began
        return 130
    except NanobotError as error:
        if not options.json_events:
            raise
        JsonRenderer(out).show(failed(error))
        return 2 if isinstance(error, UsageError) else 1


class _Shown(logging.Handler):
    """Log messages as lines on whatever stderr is by then: above the prompt if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        plain = f"{record.levelname.capitalize()}: {record.getMessage()}"
        complain(self.format(record) if self.formatter else plain)
