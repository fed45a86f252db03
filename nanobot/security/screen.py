"""What a screen would show of the output of a program: progress bars in their last state, no colours.

Escape sequences as in ECMA-48 and xterm's "Control Sequences"; those that move and erase are followed,
all others have no effect. Every character counts as one column. The cost is linear in the text.
"""

from __future__ import annotations

import re

HEIGHT = 50  # rows that the cursor can go back to
WIDTH = 500  # columns of a row that it can go back to
LONGEST = 400_000  # characters: far more than a model gets to see

_TOKEN = re.compile(
    r"(?P<text>[^\x01-\x08\x0b-\x1f\x7f-\x9f]+)"
    r"|(?:\x1b\[|\x9b)(?P<numbers>[0-?]{0,64})[ -/]{0,8}(?P<final>[@-~])"
    r"|\x1b[\]PX^_][^\x07\x18\x1a\n\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # titles, links, pictures
    r"|\x1b[ -/]{0,8}(?P<escape>[0-~])"
    r"|(?P<control>[\r\b])"
)
_UNFINISHED = re.compile(
    r"(?:\x9b|\x1b\[)[0-?]{0,64}[ -/]{0,8}\Z"
    r"|\x1b(?:[ -/]{0,8}|[\]PX^_][^\x07\x18\x1a\n\x1b\x9c]{0,4000}\x1b?)\Z"
)
_OTHER_SCREENS = {"?47", "?1047", "?1049"}  # which editors and pagers use


def rendered(text: str) -> str:
    """`text` as a screen would show it, with what has scrolled off; a very long one without its middle."""
    if len(text) > LONGEST:
        left_out = f"\n[… {len(text) - LONGEST} characters left out …]\n"
        text = text[: LONGEST // 2] + left_out + text[-LONGEST // 2 :]
    screen = TextScreen()
    return screen.feed(text) + screen.rows()


class TextScreen:
    """A screen without an edge on the right. What scrolls off its top is final."""

    def __init__(self) -> None:
        self._rows = [""]
        self._row = self._column = 0
        self._saved = (0, 0)
        self._main: list[str] | None = None  # rows of the main screen, while a program shows another
        self._pending = ""  # the beginning of an escape sequence

    def feed(self, text: str) -> str:
        """Take what was written; the rows that nothing can change any more."""
        text = self._pending + text
        unfinished = _UNFINISHED.search(text, max(0, len(text) - 4100))
        self._pending = unfinished[0] if unfinished else ""
        tokens = _TOKEN.finditer(text, 0, len(text) - len(self._pending))
        return "".join(map(self._take, tokens))

    def rows(self) -> str:
        """What the screen shows now, without a line end at its end."""
        return "\n".join(self._rows)

    def _take(self, token: re.Match[str]) -> str:
        off = ""
        if text := token["text"]:
            first, *others = text.split("\n")
            self._write(first)
            for line in others:
                off += self._scrolled()
                self._go(self._row + 1, 0)
                self._write(line)
        elif token["control"]:
            self._column = max(0, self._column - 1) if token["control"] == "\b" else 0
        elif token["escape"] in ("7", "8"):
            self._control("s" if token["escape"] == "7" else "u", "")
        elif token["final"] in ("h", "l") and token["numbers"] in _OTHER_SCREENS:
            self._show_other(token["final"] == "h")
        elif token["final"]:
            self._control(token["final"], token["numbers"])
        return off + self._scrolled()

    def _write(self, text: str) -> None:
        row, end = self._rows[self._row], self._column + len(text)
        row = row[: self._column].ljust(self._column) + text + row[end:]
        row = row.rstrip(" ") if text.isspace() else row  # which erases
        self._rows[self._row] = row if self._row == len(self._rows) - 1 else row[: 2 * WIDTH]
        self._column = end

    def _go(self, row: int, column: int) -> None:
        self._rows += [""] * (row + 1 - len(self._rows))
        self._row, self._column = row, column

    def _control(self, sign: str, numbers: str) -> None:
        given = [min(int(number), WIDTH) if number.isdecimal() else 0 for number in numbers.split(";")]
        count, second = given[0] or 1, [*given, 1][1] or 1
        row, column, top = self._row, self._column, max(0, len(self._rows) - HEIGHT)
        if sign == "s":
            self._saved = (row, column)
        elif sign in "JK":
            self._erase(sign, given[0], top)
        else:
            row, column = {
                "A": (row - count, column),
                "B": (row + count, column),
                "C": (row, column + count),
                "D": (row, column - count),
                "E": (row + count, 0),
                "F": (row - count, 0),
                "G": (row, count - 1),
                "d": (top + count - 1, column),
                **dict.fromkeys("Hf", (top + count - 1, second - 1)),
                "u": self._saved,
            }.get(sign, (row, column))
            self._go(min(max(row, top), top + HEIGHT - 1), min(max(column, 0), WIDTH))

    def _erase(self, sign: str, which: int, top: int) -> None:
        """From the cursor to the end (0), from the start to the cursor (1), or all: of the row or screen."""
        text, column = self._rows[self._row], self._column
        after = " " * (column + 1) + text[column + 1 :] if which == 1 else ""
        self._rows[self._row] = after if which else text[:column]
        if sign == "J" and which != 1:
            del self._rows[self._row + 1 :]
        if sign == "J" and which:
            self._rows[top : self._row] = [""] * (self._row - top)

    def _show_other(self, on: bool) -> None:
        """Change to a screen of its own, or back to what was there before."""
        if on and self._main is None:
            self._main, self._rows = self._rows, [""]
            self._row = self._column = 0
        elif not on and self._main is not None:
            self._rows, self._main = self._main, None
            self._row, self._column = len(self._rows) - 1, len(self._rows[-1])

    def _scrolled(self) -> str:
        """Take off what is above the screen, and of an endless row what the cursor cannot reach."""
        last = self._rows[-1]
        endless = len(last) > 2 * WIDTH
        if not endless and len(self._rows) <= 2 * HEIGHT:
            return ""
        gone = len(self._rows) - (1 if endless else HEIGHT)
        off = "".join(f"{row}\n" for row in self._rows[:gone])
        del self._rows[:gone]
        self._row = max(0, self._row - gone)
        if endless:
            off += last[:-WIDTH]
            self._rows[0] = last[-WIDTH:]
            self._column = max(0, self._column - len(last) + WIDTH)
        return "" if self._main is not None else off
