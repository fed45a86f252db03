"""A list to choose from with the arrow keys: typing filters it, what is chosen is shown in short below."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from prompt_toolkit import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import FormattedTextControl, Layout, Window

from nanobot.columns import minute, shortened, table
from nanobot.commands.conversations import beginning, last_words
from nanobot.store.records import SessionInfo, StoredMessage
from nanobot.store.store import Store
from nanobot.terminal.prompt import keyboard_output
from nanobot.terminal.screen import clean

_LISTED = 10  # rows at a time
_PREVIEWED = 6  # lines


class Picker:
    """Lines to choose from. `preview` gives the text below the list for the number of a line."""

    def __init__(self, lines: Sequence[str], preview: Callable[[int], Awaitable[str]]) -> None:
        self._lines = [clean(line) for line in lines]
        self._preview = preview
        self._previews: dict[int, str] = {}
        self._typed = ""
        self._at = 0  # among those that match

    async def choose(self) -> int | None:
        """The number of the line that the owner chooses, counted from 0; None when nothing is chosen."""
        content = FormattedTextControl(self._content, focusable=True, show_cursor=False)
        layout = Layout(Window(content, wrap_lines=False, dont_extend_height=True))
        app: Application[int | None] = Application(
            layout,
            key_bindings=self._keys(),
            erase_when_done=True,
            input=create_input(),  # of its own: a prompt's would take an Esc that comes at once for its own
            output=keyboard_output(),
        )
        self._look(app)
        return await app.run_async()

    def _matching(self) -> list[int]:
        words = self._typed.lower().split()
        return [
            number for number, line in enumerate(self._lines) if all(word in line.lower() for word in words)
        ]

    def _content(self) -> StyleAndTextTuples:
        from prompt_toolkit.application import get_app

        width = get_app().output.get_size().columns - 1
        hint = "Type to search, arrows and Enter choose, Esc leaves."
        matching = self._matching()
        first = max(0, min(self._at - _LISTED // 2, len(matching) - _LISTED))
        text: StyleAndTextTuples = [("bold", shortened(f"/ {self._typed}" if self._typed else hint, width))]
        for place, number in enumerate(matching[first : first + _LISTED], first):
            style = "reverse" if place == self._at else ""
            text += [("", "\n"), (style, shortened(self._lines[number], width))]
        if not matching:
            text.append(("", "\nNothing matches; Backspace deletes."))
        elif words := self._previews.get(matching[self._at]):
            for line in clean(words).splitlines()[:_PREVIEWED]:
                text.append(("fg:ansibrightblack", f"\n  {shortened(line, max(1, width - 2))}"))
        return text

    def _look(self, app: Application[int | None]) -> None:
        """Fetch the preview of the line that is marked."""
        matching = self._matching()
        if matching and (number := matching[self._at]) not in self._previews:
            self._previews[number] = ""

            async def fetch() -> None:
                self._previews[number] = await self._preview(number)
                app.invalidate()

            app.create_background_task(fetch())

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def moves(*names: str, by: int) -> None:
            @keys.add(*names)
            def _move(event: KeyPressEvent) -> None:
                self._at = max(0, min(self._at + by, len(self._matching()) - 1))
                self._look(event.app)

        for name, by in (("up", -1), ("down", 1), ("pageup", -_LISTED), ("pagedown", _LISTED)):
            moves(name, by=by)

        @keys.add("enter")
        def _choose(event: KeyPressEvent) -> None:
            if matching := self._matching():
                event.app.exit(result=matching[self._at])

        @keys.add("c-c")
        @keys.add("c-d")
        @keys.add("escape", eager=True)
        def _leave(event: KeyPressEvent) -> None:
            event.app.exit(result=None)

        @keys.add("backspace")
        def _delete(event: KeyPressEvent) -> None:
            self._typed, self._at = self._typed[:-1], 0
            self._look(event.app)

        @keys.add(Keys.Any)
        def _type(event: KeyPressEvent) -> None:
            if event.data.isprintable():
                self._typed, self._at = self._typed + event.data, 0
                self._look(event.app)

        return keys


async def pick_conversation(store: Store, listed: Sequence[SessionInfo]) -> SessionInfo | None:
    """The one that the owner chooses, shown by how it ended."""

    async def preview(number: int) -> str:
        return await last_words(store, listed[number])

    lines = table([(info.title, info.key, minute(info.updated_at)) for info in listed], widest=40)
    number = await Picker(lines, preview).choose()
    return None if number is None else listed[number]


async def pick_message(listed: Sequence[StoredMessage]) -> int | None:
    """The place in the list of the message that the owner chooses, shown as a whole."""

    async def preview(number: int) -> str:
        return listed[number].message.text

    return await Picker([beginning(stored) for stored in listed], preview).choose()
