"""`nanobot agent`, where one reply or a conversation begins, and the one reply."""

from __future__ import annotations

import asyncio
import logging
import math
import select
import signal
import sys
from typing import TextIO

from nanobot.app import App, open_app
from nanobot.bus.events import Notice, TurnFinished, failed
from nanobot.errors import NanobotError, UsageError
from nanobot.messages import Usage, parse_command
from nanobot.security.process import leave_running
from nanobot.terminal.options import AgentOptions, choose_session, load_and_warn
from nanobot.terminal.render import JsonRenderer
from nanobot.terminal.screen import complain, take_stdout, terminal_is_smart
from nanobot.terminal.session import exit_code, make_renderer, notes_for, stop_in_good_order, terminal_session

_REMEMBER = 30.0  # seconds a process may go on after its only reply, to consolidate memory


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


async def answer_once(options: AgentOptions, out: TextIO) -> int:
    text = _whole_message(options.message)
    stop_in_good_order()
    async with open_app(load_and_warn().config, model=options.model) as app:
        if app.mcp:
            # There is no later turn in which their tools could come, and nobody waits for them to end.
            app.mcp.start(first_turn=math.inf, patience=0.05)
        key = await choose_session(options, app.store)
        if options.message is not None and parse_command(options.message):
            from nanobot.commands.command_context import CommandContext
            from nanobot.commands.table import run_command

            reply = await run_command(options.message, key, CommandContext(app))
            if reply is not None:
                if options.json_events:
                    JsonRenderer(out).show(TurnFinished("done", reply, Usage()))
                else:
                    print(reply, file=out, flush=True)
                await _remember(app, options.model, out)
                return 0
        renderer = make_renderer(options, out)
        for note in await notes_for(app, key):
            renderer.show(Notice(note))
        async with terminal_session(app, key, renderer) as session:
            with renderer.shown():
                finished = [await session.show_turn(text)]
                stopped = finished[0].stop_reason == "cancelled"
                try:
                    while not stopped and await session.another_turn():
                        finished.append(await session.show_turn())
                        stopped = finished[-1].stop_reason == "cancelled"
                except asyncio.CancelledError:  # nothing was left to be stopped
                    stopped = True
        if not stopped:
            await _remember(app, options.model, out)
        say = (lambda _: None) if options.json_events else complain
        return max(exit_code(one, say) for one in finished)


async def _remember(app: App, model: str, out: TextIO) -> None:
    """Have a part of what is owed consolidated, now that the reply is on `out`: by a process of its own, or
    here if memory.consolidateAfterReply says so, for `_REMEMBER` seconds or until Ctrl-C.
    """
    out.flush()
    if not app.config.memory.consolidate_after_reply:
        if await app.memory.is_left_to_us():
            beside = ("memory", "consolidate", "--beside", f"--model={model}")
            leave_running([sys.executable, "-m", "nanobot", *beside])
        return
    hint = asyncio.get_running_loop().call_later(1.5, _say_what_takes_time)
    try:
        async with asyncio.timeout(_REMEMBER + 1):
            await app.memory.remember(most=1, seconds=_REMEMBER)
    except (TimeoutError, asyncio.CancelledError):
        pass
    finally:
        hint.cancel()


def _say_what_takes_time() -> None:
    if sys.stderr.isatty():
        complain("Remembering the conversation (Ctrl-C skips that) ...")


def _whole_message(message: str | None) -> str:
    """The text of -m, followed by what is piped in. Raises UsageError when there is nothing."""
    given = (message or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    piped = b""
    if not sys.stdin.isatty():
        if message is not None and not select.select([sys.stdin], [], [], 3.0)[0]:
            complain("Waiting for standard input to end; add </dev/null if nothing is coming.")
        piped = sys.stdin.buffer.read()
    texts = (given, piped.decode("utf-8", "replace").removesuffix("\n"))
    text = "\n\n".join(part for part in texts if part.strip())
    if not text:
        raise UsageError('There is nothing to answer. Write `nanobot agent -m "…"` or pipe text in.')
    return text
