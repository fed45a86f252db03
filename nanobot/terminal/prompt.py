"""The line where the owner types: history, several lines, completion of slash commands."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from nanobot import paths
from nanobot.terminal.screen import terminal_is_smart


class _CommandCompleter(Completer):
    def __init__(self, commands: Sequence[tuple[str, str]]) -> None:
        self._commands = [*commands, ("exit", "Leave.")]

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text
        for name, description in self._commands:
            if typed and f"/{name}".startswith(typed.lower()):
                yield Completion(f"/{name}", start_position=-len(typed), display_meta=description)


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not cost the message that was typed
            super().store_string(string)


def make_prompt(commands: Sequence[tuple[str, str]]) -> Callable[[], Awaitable[str]]:
    """Reads what the owner types: Enter sends, Alt+Enter begins a line. Raises StorageError.

    `commands` are the names and descriptions that are completed behind a slash.
    """
    if not terminal_is_smart():
        return _read_plainly
    history = paths.make_private_dir(paths.home() / "history") / "cli_history"
    with contextlib.suppress(OSError):
        history.touch(mode=0o600)
    output = create_output(sys.stdout)
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False  # terminals that never tell would keep Ctrl-C from the turn for a second
    session: PromptSession[str] = PromptSession(
        message="> ",
        multiline=True,
        prompt_continuation="  ",
        history=_History(str(history)),
        completer=_CommandCompleter(commands),
        complete_while_typing=True,
        key_bindings=_keys(),
        include_default_pygments_style=False,
        output=output,
    )
    return session.prompt_async


async def _read_plainly() -> str:
    return input("> ")  # noqa: ASYNC250  nothing else happens while this terminal waits


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
