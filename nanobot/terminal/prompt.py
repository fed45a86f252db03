"""The line where the owner types: it stays, below what is printed and what is going on."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, has_focus
from prompt_toolkit.formatted_text import ANSI, StyleAndTextTuples, to_formatted_text
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import ConditionalKeyBindings, KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Dimension,
    Float,
    FloatContainer,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import HighlightIncrementalSearchProcessor, HighlightSelectionProcessor
from prompt_toolkit.output import Output, create_output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.widgets import SearchToolbar

from nanobot import paths
from nanobot.terminal.screen import Screen, one_line

_SIGN, _CONTINUED = "> ", "  "
_MENU = 8  # rows kept free for completions
_ESCAPE = 0.1  # seconds after which an Esc is no beginning of another key


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):  # a full disk must not cost the message that was typed
            super().store_string(string)


Completions = Callable[[str], Awaitable[Sequence[tuple[str, str]]]]


class _Commands(Completer):
    """Completes what begins with a slash, as `completions` says."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        yield from ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        typed = document.text_before_cursor
        for line, about in await self._completions(typed) if typed.startswith("/") else ():
            if line.lower().startswith(typed.lower()):
                yield Completion(line, -len(typed), display_meta=about)


def keyboard_output() -> Output:
    """Where keys are answered: the terminal, whatever stdout has become."""
    output = create_output(sys.__stdout__)
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False  # terminals that never tell would keep keys waiting for a second
    return output


class LivePrompt(Screen):
    """A screen whose last lines are what waits, and the prompt.

    `buffer` is what is typed; `waiting` what was sent and has not had its turn: it is shown above the prompt,
    and Up takes the last of it back. `keys` are for whoever reads; they count while nothing is searched for.
    `running` ends with the prompt. Raises StorageError.
    """

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.waiting: list[str] = []
        self.keys = KeyBindings()
        self.running: asyncio.Task[None] | None = None
        self._fragments: StyleAndTextTuples = []
        history = paths.make_private_dir(paths.home() / "history") / "cli_history"
        with contextlib.suppress(OSError):
            history.touch(mode=0o600)
        self.buffer = Buffer(multiline=True, history=_History(str(history)), complete_while_typing=True)
        self._add_keys()
        self._app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=ConditionalKeyBindings(self.keys, has_focus(self.buffer)),
            include_default_pygments_style=False,
            output=keyboard_output(),
            erase_when_done=True,
        )
        self._app.ttimeoutlen = self._app.timeoutlen = _ESCAPE
        self._app.terminal_size_polling_interval = None

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """It is there while this runs."""

        def watch_size() -> None:  # in place of what the application has set just before
            loop.call_soon(loop.add_signal_handler, signal.SIGWINCH, self._resized)

        loop = asyncio.get_running_loop()
        running = self._app.run_async(watch_size, set_exception_handler=False, handle_sigint=False)
        self.running = asyncio.create_task(running)
        try:
            yield
        finally:
            if self._app.is_running:
                self._app.exit()
            await asyncio.wait([self.running])

    def complete(self, completions: Completions) -> None:
        """Offer what a line that begins with a slash may become, and what each is about."""
        self.buffer.completer = _Commands(completions)

    def take(self) -> str:
        """What is typed, which is sent now."""
        text = self.buffer.text.strip()
        self.buffer.reset(append_to_history=bool(text))
        return text

    def paint(self, final: Sequence[str], live: Sequence[str]) -> None:
        """As a screen's."""
        shown = list(live[-self._room() :])
        if final or len(shown) < len(self._live):
            self._app.renderer.erase()
            self._app.output.write_raw("".join(f"{line}\r\n" for line in final))
            self._app.output.flush()
        if final or shown != self._live:
            self._live = shown
            self._fragments = to_formatted_text(ANSI("".join(f"{line}\n" for line in shown)))
            self._app.invalidate()

    def _room(self) -> int:
        """Rows for live lines."""
        taken = len(self.waiting) + 1 + self.buffer.document.line_count
        return max(1, shutil.get_terminal_size().lines - taken - 2)

    def _resized(self) -> None:
        """Draw anew. A terminal that was narrowed has wrapped what was drawn, so it takes more rows."""
        app, width = self._app, self.width
        if drawn := app.renderer.last_rendered_screen:
            cursor = drawn.get_cursor_position(app.layout.current_window)
            rows = [drawn.data_buffer[row].items() for row in range(cursor.y)]
            last = [max((at for at, cell in row if cell.char.strip()), default=0) for row in rows]
            app.output.cursor_up(sum(at // width for at in [*last, cursor.x]))
        app.renderer.erase(leave_alternate_screen=False)
        app.invalidate()

    def _layout(self) -> Layout:
        search = SearchToolbar()
        line = Window(
            BufferControl(
                self.buffer,
                search_buffer_control=search.control,
                input_processors=[HighlightIncrementalSearchProcessor(), HighlightSelectionProcessor()],
                preview_search=True,
            ),
            height=lambda: Dimension(min=1, preferred=_MENU if self.buffer.complete_state else None),
            get_line_prefix=lambda number, wrapped: _CONTINUED if number or wrapped else _SIGN,
            wrap_lines=True,
            dont_extend_height=True,
        )
        above = Window(FormattedTextControl(self._above), dont_extend_height=True)
        menu = Float(CompletionsMenu(max_height=_MENU, scroll_offset=1), xcursor=True, ycursor=True)
        is_going_on = Condition(lambda: bool(self._fragments or self.waiting))
        going_on = ConditionalContainer(above, is_going_on)
        return Layout(HSplit([going_on, FloatContainer(line, [menu]), search]), line)

    def _above(self) -> StyleAndTextTuples:
        """What is going on, and what waits."""
        waiting = [one_line(f"waits: {text}", self.width - 1) for text in self.waiting]
        hint = ["(Up takes it back)"] if waiting else []
        dim = [("fg:ansibrightblack", f"{line}\n") for line in (*waiting, *hint)]
        lines: StyleAndTextTuples = [*self._fragments, *dim]
        style, last, *_ = lines[-1]
        return [*lines[:-1], (style, last.removesuffix("\n"))]

    def _add_keys(self) -> None:
        buffer = self.buffer

        @self.keys.add("escape", "enter")
        def _new_line(event: KeyPressEvent) -> None:
            buffer.insert_text("\n")

        @self.keys.add("up", filter=Condition(lambda: bool(self.waiting) and not buffer.text))
        def _take_back(event: KeyPressEvent) -> None:
            buffer.insert_text(self.waiting.pop())
