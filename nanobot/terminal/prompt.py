"""The line where the owner types: history, several lines, completion of slash commands."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from nanobot import paths
from nanobot.terminal.screen import one_line, terminal_is_smart

_SIGN = "> "
_REFRESH = 1.0  # seconds between two looks at the status
_IDLE = 2.0  # seconds without a key after which nobody is typing


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not cost the message that was typed
            super().store_string(string)


# Reads what the owner types; None when news came while nothing was. The status is a line shown above.
Prompt = Callable[[Callable[[], Awaitable[None]], Callable[[], str]], Awaitable[str | None]]


def make_prompt(commands: Sequence[tuple[str, str]]) -> Prompt:
    """Enter sends, Alt+Enter begins a line. Raises StorageError.

    `commands` are the names and descriptions that are completed behind a slash.
    """
    if not terminal_is_smart():
        return _read_plainly
    history = paths.make_private_dir(paths.home() / "history") / "cli_history"
    with contextlib.suppress(OSError):
        history.touch(mode=0o600)
    described = {f"/{name}": text for name, text in (*commands, ("exit", "Leave."))}
    output = create_output(sys.stdout)
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False  # terminals that never tell would keep Ctrl-C from the turn for a second
    session: PromptSession[str] = PromptSession(
        message=_SIGN,
        multiline=True,
        prompt_continuation="  ",
        history=_History(str(history)),
        completer=WordCompleter(list(described), sentence=True, meta_dict=described, ignore_case=True),
        complete_while_typing=True,
        key_bindings=_keys(),
        include_default_pygments_style=False,
        output=output,
    )
    return _LinePrompt(session)


class _LinePrompt:
    def __init__(self, session: PromptSession[str]) -> None:
        self._session = session
        self._draft = ""  # what was typed when news came

    async def __call__(self, news: Callable[[], Awaitable[None]], status: Callable[[], str]) -> str | None:
        session = self._session
        session.message = lambda: self._message(status())
        session.refresh_interval = _REFRESH if status() else 0
        session.app.erase_when_done = False
        watching = asyncio.create_task(self._close_for(news))
        draft, self._draft = self._draft, ""
        try:
            return await session.prompt_async(default=draft)
        finally:
            watching.cancel()

    def _message(self, status: str) -> StyleAndTextTuples:
        """The prompt, with the status above it as long as nothing was sent."""
        if not status or self._session.app.is_done:
            return [("", _SIGN)]
        line = one_line(status, shutil.get_terminal_size().columns - 1)
        return [("fg:ansibrightblack", f"{line}\n"), ("", _SIGN)]

    async def _close_for(self, news: Callable[[], Awaitable[None]]) -> None:
        """Give the terminal to the news as soon as nobody is typing; what was typed is kept."""
        await news()
        app, typed = self._session.app, None
        while app.current_buffer.text not in ("", typed):
            typed = app.current_buffer.text
            await asyncio.sleep(_IDLE)
        if app.is_running:
            self._draft = app.current_buffer.text
            app.erase_when_done = True
            app.exit()


async def _read_plainly(news: Callable[[], Awaitable[None]], status: Callable[[], str]) -> str | None:
    return input(_SIGN)  # noqa: ASYNC250  nothing else happens while this terminal waits


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def _clear_or_leave(event: KeyPressEvent) -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt(), style="class:exiting")

    return keys
