"""The line where the owner types: history, several lines, completion of slash commands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from nanobot import paths
from nanobot.agent.commands import COMMANDS
from nanobot.errors import StorageError


class _CommandCompleter(Completer):
    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        typed = document.text
        if not typed.startswith("/") or any(character.isspace() for character in typed):
            return
        choices = [(command.name, command.description) for command in COMMANDS]
        for name, description in [*choices, ("exit", "Leave.")]:
            if name.startswith(typed[1:].lower()):
                yield Completion(f"/{name}", start_position=-len(typed), display_meta=description)


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not cost the message that was typed
            super().store_string(string)


def make_prompt() -> PromptSession[str]:
    """A prompt whose Enter sends and whose Alt+Enter begins a line. Raises StorageError."""
    return PromptSession(
        message="> ",
        multiline=True,
        prompt_continuation="  ",
        history=_History(str(_history_file())),
        completer=_CommandCompleter(),
        complete_while_typing=True,
        enable_history_search=False,
        key_bindings=_keys(),
        include_default_pygments_style=False,
    )


def _history_file() -> Path:
    path = paths.make_private_dir(paths.home() / "history") / "cli_history"
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise StorageError(f"Cannot write {path}: {error.strerror}.") from error
    return path


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
