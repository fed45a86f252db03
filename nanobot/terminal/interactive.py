"""`nanobot agent` as a conversation: ask, show the turn, and ask again until the owner leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from nanobot import __version__, paths
from nanobot.app import App, open_app
from nanobot.commands.command_context import CommandContext
from nanobot.commands.conversations import going_on, own_messages
from nanobot.commands.table import acts_at_once, completions, run_command
from nanobot.errors import NanobotError
from nanobot.terminal.options import AgentOptions, choose_session, load_and_warn
from nanobot.terminal.render import Renderer, footer
from nanobot.terminal.screen import one_line, terminal_is_smart
from nanobot.terminal.session import (
    GOODBYES,
    TerminalSession,
    exit_code,
    make_renderer,
    notes_for,
    said,
    stop_in_good_order,
    terminal_session,
)

if TYPE_CHECKING:
    from nanobot.terminal.prompt import LivePrompt

T = TypeVar("T")

_GO_ON = "You were interrupted. Go on with what I asked before."
_LOOK = 2.0  # seconds between two looks for what a schedule has brought
_TWICE = 1.0  # seconds within which a second Esc counts
_KEYS = (
    "Enter sends, also while an answer is written: then it waits, and Up on an empty prompt takes it back."
    " Alt+Enter begins a line, Esc or Ctrl-C stops, Esc twice goes back to an earlier message, Ctrl-O shows"
    " the last output."
)
_PLAIN_KEYS = "Ctrl-C stops."
_LEAVING = "To leave: exit, quit, :q, Ctrl-D, or Ctrl-C twice."
_HINT = "Enter sends, Alt+Enter begins a line, Esc stops, /help lists commands, Ctrl-D leaves."


def converse(options: AgentOptions) -> int:
    """Talk until the owner leaves; returns the exit code. Raises NanobotError when nothing can begin."""
    try:
        return asyncio.run(_converse(options))
    except asyncio.CancelledError:  # SIGTERM or SIGHUP
        return 128 + signal.SIGTERM


async def _converse(options: AgentOptions) -> int:
    async with open_app(load_and_warn().config, model=options.model) as app:
        key = await choose_session(options, app.store)
        stop_in_good_order()
        app.assistant.policy.attended = True
        prompt = None
        if terminal_is_smart():
            from nanobot.terminal.prompt import LivePrompt

            prompt = LivePrompt()
        renderer = make_renderer(options, screen=prompt)
        async with terminal_session(app, key, renderer) as session:
            conversation = _Conversation(app, session, renderer, prompt)
            await conversation.greet()
            async with prompt.shown() if prompt else contextlib.nullcontext():
                with renderer.shown():
                    return await conversation.run()


class _Conversation:
    """Turns of one session, one after the other. Without `prompt` the terminal knows no cursor movement."""

    def __init__(
        self, app: App, session: TerminalSession, renderer: Renderer, prompt: LivePrompt | None
    ) -> None:
        self._app = app
        self._session = session
        keys = _KEYS if prompt else _PLAIN_KEYS
        self._commands = CommandContext(app, self._switch, renderer.say, keys=f"{keys} {_LEAVING}")
        self._say = renderer.say
        self._prompt = prompt
        self._work: asyncio.Task[Any] | None = None  # a turn or a command
        self._beside: set[asyncio.Task[None]] = set()  # commands that do not wait for it
        self._entered = asyncio.Event()
        self._warned = False  # Ctrl-C was pressed: the next one leaves
        self._escaped = 0.0  # when Esc was pressed last
        self._left: BaseException | None = None  # how the owner has left
        self._remembering: asyncio.Task[None] | None = None
        if prompt:
            self._bind_keys(prompt)

    async def run(self) -> int:
        """Answer until the owner leaves, and say how to come back."""
        code, loop = 0, asyncio.get_running_loop()
        # Ctrl-C belongs to what is at work, or the prompt: asyncio must not end the conversation with it.
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        if not self._prompt:
            loop.add_reader(sys.stdin, self._read_line)
        try:
            if self._app.mcp:
                self._app.mcp.start()  # while the owner types
            await self._offer_to_go_on()
            while True:
                await self._take(await self._next())
        except EOFError:
            pass
        except KeyboardInterrupt:
            code = 130
        finally:
            loop.remove_reader(sys.stdin)
            await self._stop_remembering()
            labels = self._session.labels
            await self._session.stop_subagents()
        if labels:
            self._say(f"Stopped the subagents that were at work: {', '.join(labels)}")
        self._say(f"To go on later: {paths.program()} agent -s {shlex.quote(self._session.key)}")
        return code

    async def _next(self) -> str | None:
        """What the owner writes next, or None when a turn that tells of a subagent's report has begun.

        Raises EOFError or KeyboardInterrupt when the owner has left.
        """
        if not self._prompt and await self._do(self._session.another_turn()):
            return None
        while not self._session.waiting:
            if self._session.turn_waits:
                return None
            self._entered.clear()
            for number, text in await self._app.store.outbox.for_terminal():
                self._say(f"Scheduled: {text}")
                await self._app.store.outbox.delivered(number, "")
            await self._wait()
        return self._session.waiting.pop(0)

    async def _wait(self) -> None:
        """Wait for the owner, for a turn, or until reminders are looked for again."""
        if not self._prompt:
            print("> ", end="", flush=True)
        waits = [asyncio.create_task(work) for work in (self._entered.wait(), self._session.until_turn())]
        if self._prompt and self._prompt.running:
            waits.append(self._prompt.running)
        pause = _LOOK if self._prompt else None
        done, _ = await asyncio.wait(waits, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        for one in waits[:2]:
            one.cancel()
        for one in done:
            one.result()  # raises what has ended it
        if self._left:
            raise self._left

    def _switch(self, session: str) -> None:
        self._session.key = session

    async def greet(self) -> None:
        """Say what this is. Raises ProviderError when no model can answer."""
        model = await self._commands.model_in_use(self._session.key)
        self._say(f"nanobot {__version__}, {model}, session {self._session.key}")
        self._say(_HINT)
        for note in await notes_for(self._app, self._session.key):
            self._say(note)
        current = await self._app.store.sessions.get(self._session.key)
        if current and current.messages:
            self._say(await going_on(self._app.store, current))

    async def _offer_to_go_on(self) -> None:
        interrupted = await self._app.store.turns.last_interrupted(self._session.key)
        if interrupted is None:
            return
        asked, told = f"You had asked: {one_line(interrupted, 200)}", "It told of a subagent's report."
        self._say(f"\nThe last answer was cut off. {asked if interrupted else told}")
        self._say("Go on with it? (y/N)")
        reply = await self._next()
        if reply and reply.lower() in ("y", "yes"):
            reply = _GO_ON
        if reply is None or reply.lower() not in ("", "n", "no"):
            await self._take(reply)

    async def _take(self, text: str | None) -> None:
        """Deal with what the owner wrote, or show the turn that has begun."""
        self._warned = False
        if text is not None and text.lower() in GOODBYES:
            raise EOFError
        await self._do(self._answer("") if text is None else self._respond(text))

    async def _do(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do what Ctrl-C and Esc stop."""
        done, this = None, asyncio.current_task()
        self._work = asyncio.create_task(work)
        try:
            done = await self._work
        except asyncio.CancelledError:
            if this and this.cancelling():
                raise
            self._say("Stopped.\n")
        finally:
            self._work = None
        if this and this.cancelling():  # SIGTERM: the turn was closed, now the rest
            raise asyncio.CancelledError
        if self._left:
            raise self._left
        return done

    async def _respond(self, text: str) -> None:
        if self._prompt:
            self._say(said(text))
        if not await self._run_command(text):
            await self._answer(text)
        if self._remembering is None or self._remembering.done():
            self._remembering = asyncio.create_task(self._app.memory.remember())

    async def _run_command(self, text: str) -> bool:
        """Whether it was a slash command, or a mistyped one."""
        try:
            if self._prompt and text in ("/resume", "/rewind") and not (text := await self._chosen(text)):
                return True
            reply = await run_command(text, self._session.key, self._commands)
        except NanobotError as error:
            self._say(f"Error: {error}\n", "red")
            return True
        if reply is not None:
            self._say(f"{reply}\n")
        return reply is not None

    async def _chosen(self, command: str) -> str:
        """The command with what the owner has picked from a list, which is typed again; "" for nothing."""
        from prompt_toolkit.application import in_terminal

        from nanobot.terminal.picker import pick_conversation, pick_message

        store, current = self._app.store, await self._app.store.sessions.get(self._session.key)
        async with in_terminal():
            if command == "/resume":
                listed = await store.conversations.newest(500, subagents=False)
                found = await pick_conversation(store, listed)
                return f"/resume @{found.id}" if found else ""
            own = await own_messages(store, current) if current else []
            number = await pick_message(own)
        if number is None or not self._prompt:
            return ""
        self._prompt.buffer.cursor_position = 0
        self._prompt.buffer.insert_text(own[number].message.text)
        return f"/rewind {number + 1}"

    async def _stop_remembering(self) -> None:
        """What is not consolidated when the owner leaves stays owed."""
        if self._remembering is not None:
            self._remembering.cancel()
            await asyncio.wait([self._remembering])

    async def _answer(self, text: str) -> None:
        """Show a turn, of `text` if given. Cancelling it stops the turn."""
        started = time.monotonic()
        finished = await self._session.show_turn(text)
        if finished.stop_reason == "cancelled":
            self._say("Stopped." + " Ctrl-C again leaves." * self._warned + "\n")
        elif not exit_code(finished, lambda fault: self._say(f"{fault}\n", "red")):
            width = shutil.get_terminal_size().columns - 1
            line = footer(self._session.model, finished, time.monotonic() - started, width)
            self._say(f"{line}\n", "dim")

    # -- what the owner does, also while an answer is written

    def _bind_keys(self, prompt: LivePrompt) -> None:
        prompt.waiting = self._session.waiting
        prompt.complete(self._completions)
        add = prompt.keys.add
        add("enter")(lambda _: self._enter(prompt.take()))
        add("escape")(lambda _: self._escape())
        add("c-o")(lambda _: self._run_beside(self._run_command("/output")))
        add("c-c")(
            lambda _: prompt.buffer.reset() if prompt.buffer.text and not self._work else self._interrupt()
        )
        add("c-d")(lambda _: prompt.buffer.delete() if prompt.buffer.text else self._leave(EOFError()))

    async def _completions(self, typed: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        with contextlib.suppress(NanobotError):  # which is said when the line is sent
            found = await completions(typed, self._session.key, self._commands)
        return [*found, ("/exit", "Leave.")]

    def _enter(self, text: str) -> None:
        """Take a line: it answers a question, is a command that acts at once, or waits for its turn."""
        if self._session.answer(text) or not text:
            return
        if self._work and acts_at_once(text):
            if text.lower() == "/stop":
                self._stop()
            work = self._run_at_once(text)
        else:
            self._session.waiting.append(text)
            self._entered.set()
            work = self._session.steer()
        self._run_beside(work)

    def _run_beside(self, work: Coroutine[Any, Any, object]) -> None:
        async def run() -> None:
            try:
                await work
            except NanobotError as error:
                self._say(f"Error: {error}\n", "red")

        task = asyncio.create_task(run())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _run_at_once(self, text: str) -> None:
        self._say(said(text))
        await self._run_command(text)

    def _read_line(self) -> None:
        """From a terminal without a prompt."""
        data = os.read(sys.stdin.fileno(), 65_536)
        if data:
            self._enter(data.decode(errors="replace").strip())
            self._entered.set()
        else:
            self._leave(EOFError())

    def _stop(self) -> None:
        """Stop what is at work."""
        if self._work:
            self._work.cancel()

    def _escape(self) -> None:
        """Stop what is at work; when there is nothing, the second Esc goes back to an earlier message."""
        now = time.monotonic()
        if self._work is None and now - self._escaped < _TWICE:
            self._enter("/rewind")
        self._escaped = 0.0 if self._work else now
        self._stop()

    def _interrupt(self) -> None:
        """Ctrl-C: stop what is at work; the second one leaves."""
        if self._warned:
            self._leave(KeyboardInterrupt())
        elif not self._work:
            self._say("Press Ctrl-C again or Ctrl-D to leave.")
        self._warned = True
        self._stop()

    def _leave(self, how: BaseException) -> None:
        self._left = how
        self._entered.set()
        self._stop()
