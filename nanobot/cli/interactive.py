"""`nanobot agent` as a conversation: ask, show the turn, and ask again until the owner leaves."""

from __future__ import annotations

import asyncio
import shlex
import signal
import time
from collections.abc import Awaitable, Callable

from nanobot import __version__
from nanobot.agent.commands import run_command
from nanobot.app import App, SessionDesk, open_app
from nanobot.bus.events import TurnFinished
from nanobot.cli.agent import (
    AgentOptions,
    choose_session,
    load_and_warn,
    make_renderer,
    report,
    show_turn,
)
from nanobot.cli.render import Renderer, seconds
from nanobot.cli.screen import clean, complain, one_line, quiet_keys, terminal_is_smart
from nanobot.errors import NanobotError
from nanobot.messages import Usage

_EXIT_WORDS = frozenset({"exit", "quit", "/exit", "/quit", ":q"})
_SECOND_PRESS = 2.0  # seconds within which a second Ctrl-C leaves
_GO_ON = "You were interrupted. Go on with what I asked before."


def converse(options: AgentOptions) -> int:
    """Talk until the owner leaves; returns the exit code. Raises NanobotError when nothing can begin."""
    try:
        return asyncio.run(_converse(options))
    except asyncio.CancelledError:  # SIGTERM
        return 128 + signal.SIGTERM


async def _converse(options: AgentOptions) -> int:
    loaded = load_and_warn()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    async with open_app(loaded.config, model=options.model) as app:
        key = await choose_session(options, app.store)
        read = _smart_reader() if terminal_is_smart() else _plain_reader
        conversation = Conversation(app, key, lambda: make_renderer(options, interactive=True), read)
        # Ctrl-C belongs to the running turn or the prompt: asyncio must not end the conversation with it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if task is not None:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        return await conversation.run()


class Conversation:
    """Turns of one session, one after the other. `read` raises EOFError and KeyboardInterrupt."""

    def __init__(
        self, app: App, session: str, renderer: Callable[[], Renderer], read: Callable[[], Awaitable[str]]
    ) -> None:
        self._app = app
        self._session = session
        self._renderer = renderer
        self._read = read
        self._desk = SessionDesk(app)
        self._warned = False  # one Ctrl-C was pressed: the next one leaves
        self._leave = False

    async def run(self) -> int:
        """Greet, answer until the owner leaves, and say how to come back."""
        await self._greet()
        code = 0
        try:
            await self._offer_to_go_on()
            while not self._leave:
                await self._exchange()
        except EOFError:
            print()
        except KeyboardInterrupt:
            print()
            code = 130
        print(f"To go on later: {_resume_command(self._session)}")
        return 130 if self._leave else code

    async def _greet(self) -> None:
        app = self._app
        resolution, provider = await app.models.get(await app.assistant.model_of(self._session))
        model = f"{resolution.model} ({resolution.provider_name})"
        print(clean(f"nanobot {__version__}, {model}, session {self._session}"))
        print("Enter sends, Alt+Enter begins a line, Ctrl-C stops an answer.")
        print("/help lists commands, Ctrl-D leaves.")
        note = provider.traits(resolution.model).note
        if note:
            print(clean(note))

    async def _offer_to_go_on(self) -> None:
        interrupted = await self._app.store.last_interrupted(self._session)
        if interrupted is None:
            return
        print(f"\nThe last answer was cut off. You had asked: {one_line(interrupted.text, 200)}")
        print("Go on with it? (y/N)")
        reply = (await self._read()).strip()
        if reply.lower() in ("y", "yes"):
            await self._answer(_GO_ON)
        elif reply.lower() not in ("", "n", "no"):
            await self._handle(reply)

    async def _exchange(self) -> None:
        try:
            text = (await self._read()).strip()
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
            reply = await run_command(text, self._session, self._desk)
            if reply is None:
                await self._answer(text)
            else:
                print(f"{clean(reply)}\n")
        except NanobotError as error:
            complain(f"Error: {error}\n")

    async def _answer(self, text: str) -> None:
        """Run a turn. Ctrl-C cancels it; a second press soon after leaves when it has been closed."""
        started = time.monotonic()
        turn = asyncio.create_task(self._show_turn(text))
        presses: list[float] = []

        def interrupt() -> None:
            now = time.monotonic()
            self._leave = bool(presses) and now - presses[-1] < _SECOND_PRESS
            presses.append(now)
            turn.cancel()

        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            finished = await turn
        except asyncio.CancelledError:
            finished = None
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        if this is not None and this.cancelling():  # SIGTERM: the turn was closed, now the rest
            raise asyncio.CancelledError
        self._warned = bool(presses)
        if finished is None or finished.stop_reason == "cancelled":
            print("Stopped. Ctrl-C again leaves.\n")
        elif report(finished):
            print()
        else:
            print(_footer(finished.usage, time.monotonic() - started))

    async def _show_turn(self, text: str) -> TurnFinished | None:
        with quiet_keys():
            return await show_turn(self._app.run(text, session_key=self._session), self._renderer())


def _footer(usage: Usage, spent: float) -> str:
    cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
    line = f"{usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out, {seconds(spent)}"
    return f"\x1b[2m{line}\x1b[0m\n" if terminal_is_smart() else line


def _resume_command(session: str) -> str:
    return f"nanobot agent -s {shlex.quote(session)}"


def _smart_reader() -> Callable[[], Awaitable[str]]:
    from nanobot.cli.prompt import make_prompt

    return make_prompt().prompt_async


async def _plain_reader() -> str:
    """Blocks: nothing else happens in a terminal that waits for its owner."""
    return input("> ")  # noqa: ASYNC250
