"""`nanobot agent` as a conversation: ask, show the turn, and ask again until the owner leaves."""

from __future__ import annotations

import asyncio
import shlex
import signal
import time

from nanobot import __version__
from nanobot.app import App, open_app
from nanobot.bus.events import TurnFinished
from nanobot.commands.command_context import CommandContext
from nanobot.commands.table import COMMANDS, run_command
from nanobot.errors import NanobotError
from nanobot.terminal.config import load_and_warn
from nanobot.terminal.once import (
    choose_session,
    exit_code,
    make_renderer,
    notes_for,
    stop_in_good_order,
)
from nanobot.terminal.options import AgentOptions
from nanobot.terminal.prompt import make_prompt
from nanobot.terminal.render import seconds
from nanobot.terminal.screen import clean, complain, one_line, quiet_keys, terminal_is_smart
from nanobot.terminal.session import TerminalSession, terminal_session

_EXIT_WORDS = frozenset({"exit", "quit", "/exit", "/quit", ":q"})
_GO_ON = "You were interrupted. Go on with what I asked before."


def converse(options: AgentOptions) -> int:
    """Talk until the owner leaves; returns the exit code. Raises NanobotError when nothing can begin."""
    try:
        return asyncio.run(_converse(options))
    except asyncio.CancelledError:  # SIGTERM or SIGHUP
        return 128 + signal.SIGTERM


async def _converse(options: AgentOptions) -> int:
    async with open_app(load_and_warn().config, model=options.model) as app:
        key = await choose_session(options, app.store)
        # Ctrl-C belongs to the running turn or the prompt: asyncio must not end the conversation with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop_in_good_order()
        renderer = make_renderer(options, interactive=True)
        async with terminal_session(app, key, renderer) as session:
            return await _Conversation(app, session).run()


class _Conversation:
    """Turns of one session, one after the other."""

    def __init__(self, app: App, session: TerminalSession) -> None:
        self._app = app
        self._session = session
        self._prompt = make_prompt([(command.name, command.description) for command in COMMANDS])
        self._commands = CommandContext(app, self._switch, print)
        app.assistant.policy.attended = True
        self._warned = False  # Ctrl-C was pressed: the next one leaves
        self._remembering: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Greet, answer until the owner leaves, and say how to come back."""
        code = 0
        try:
            await self._greet()
            if self._app.mcp:
                self._app.mcp.start()  # while the owner types
            await self._offer_to_go_on()
            while True:
                await self._exchange()
        except EOFError:
            print()
        except KeyboardInterrupt:
            print()
            code = 130
        finally:
            await self._stop_remembering()
            labels = self._session.labels
            await self._session.stop_subagents()
        if labels:
            print(clean(f"Stopped the subagents that were at work: {', '.join(labels)}"))
        print(f"To go on later: nanobot agent -s {shlex.quote(self._session.key)}")
        return code

    def _switch(self, session: str) -> None:
        self._session.key = session

    async def _read(self) -> str | None:
        """What the owner types, or None when a turn that tells of a subagent's report has begun."""
        return await self._prompt(self._session.until_turn, self._session.status)

    async def _greet(self) -> None:
        model = await self._commands.model_in_use(self._session.key)
        print(clean(f"nanobot {__version__}, {model}, session {self._session.key}"))
        print("Enter sends, Alt+Enter begins a line, Ctrl-C stops, /help lists commands, Ctrl-D leaves.")
        for note in await notes_for(self._app, self._session.key):
            print(clean(note))

    async def _offer_to_go_on(self) -> None:
        interrupted = await self._app.store.turns.last_interrupted(self._session.key)
        if interrupted is None:
            return
        asked = f"You had asked: {one_line(interrupted, 200)}"
        print("\nThe last answer was cut off.", asked if interrupted else "It told of a subagent's report.")
        print("Go on with it? (y/N)")
        reply = (await self._read() or "").strip()
        if reply.lower() in ("y", "yes"):
            await self._answer(_GO_ON)
        elif reply.lower() not in ("", "n", "no"):
            await self._handle(reply)

    async def _exchange(self) -> None:
        # A simple terminal has no prompt that could be left for a report.
        if self._session.turn_waits or (not terminal_is_smart() and await self._session.another_turn()):
            await self._answer()
            return
        try:
            text = (await self._read() or "").strip()
        except KeyboardInterrupt:
            if self._warned:
                raise
            self._warned = True
            print("Press Ctrl-C again or Ctrl-D to leave.")
            return
        if text:
            self._warned = False
            await self._handle(text)

    async def _handle(self, text: str) -> None:
        if text.lower() in _EXIT_WORDS:
            raise EOFError
        try:
            reply = await run_command(text, self._session.key, self._commands)
            if reply is None:
                await self._answer(text)
            else:
                print(f"{clean(reply)}\n")
        except NanobotError as error:
            complain(f"Error: {error}\n")
        if self._remembering is None or self._remembering.done():
            self._remembering = asyncio.create_task(self._app.memory.remember())

    async def _stop_remembering(self) -> None:
        """What is not consolidated when the owner leaves stays owed."""
        if self._remembering is not None:
            self._remembering.cancel()
            await asyncio.wait([self._remembering])

    async def _answer(self, text: str = "") -> None:
        """Show a turn, of `text` if given. Ctrl-C cancels it; a second press leaves when it is closed."""
        started = time.monotonic()
        turn = asyncio.create_task(self._show(text))
        presses = 0

        def interrupt() -> None:
            nonlocal presses
            presses += 1
            turn.cancel()

        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            finished = await turn
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        if this is not None and this.cancelling():  # SIGTERM: the turn was closed, now the rest
            raise asyncio.CancelledError
        if presses > 1:
            raise KeyboardInterrupt
        self._warned = bool(presses)
        if presses:
            print("Stopped. Ctrl-C again leaves.\n")
        elif exit_code(finished):
            print()
        else:
            print(_footer(finished, time.monotonic() - started))

    async def _show(self, text: str) -> TurnFinished:
        with quiet_keys():
            return await self._session.show_turn(text)


def _footer(finished: TurnFinished, spent: float) -> str:
    usage, context = finished.usage, finished.context
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    line = f"{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out, {seconds(spent)}"
    if context.window:
        line += f", context {(context.tokens or context.estimated) / context.window:.0%} full"
    return f"\x1b[2m{line}\x1b[0m\n" if terminal_is_smart() else line
