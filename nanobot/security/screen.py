"""What a screen would show of the output of a program: progress bars in their last state, no colours.

Escape sequences as in ECMA-48 and xterm's "Control Sequences"; those that move and erase are followed,
all others have no effect. The cost is linear in the text, whatever it holds.
"""

from __future__ import annotations

import re

HEIGHT = 50  # rows that the cursor can go back to
WIDTH = 500  # columns of a row that it can go back to
LONGEST = 400_000  # characters: far more than a model gets to see

_PLAIN = re.compile(r"[^\x01-\x08\x0b-\x1f\x7f-\x9f]*")
_TOKEN = re.compile(
    r"(?P<text>[^\x01-\x1f\x7f-\x9f]+)"
    r"|\x1b\[(?P<numbers>[0-?]{0,64})[ -/]{0,8}(?P<final>[@-~])"
    r"|\x1b(?P<string>[\]PX^_])"
    r"|\x1b[ -/]{0,8}(?P<escape>[0-~])"
    r"|(?P<control>[\x01-\x1f])"
    r"|[\x7f-\x9f]"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[ -/]{0,8})\Z")
_STRING_END = re.compile(r"[\x07\x18\x1a\n\x1b\x9c]")
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6"
    "\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001f9ff\U00020000-\U0003fffd]"
)
_SECOND = "\x7f"  # stands for the second column of a wide character, and for those a tab passes
_OTHER_SCREENS = {"?47", "?1047", "?1049"}


def rendered(text: str) -> str:
    """`text` as a screen would show it, with what has scrolled off; a very long one without its middle."""
    if _PLAIN.fullmatch(text):
        return text
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
        self._in_string = False  # in a title, a link or a picture, which nobody sees

    def feed(self, text: str) -> str:
        """Take what was written; the rows that nothing can change any more."""
        text = self._pending + text
        unfinished = _UNFINISHED.search(text, max(0, len(text) - 80))
        self._pending = unfinished[0] if unfinished else ""
        text = text[: len(text) - len(self._pending)]
        final = []
        position = 0
        while position < len(text):
            if self._in_string:
                end = _STRING_END.search(text, position)
                position = (end.end() - (end[0] in "\n\x1b")) if end else len(text)
                self._in_string = end is None
                continue
            plain = _PLAIN.match(text, position)
            if plain and plain[0] and self._at_end():
                self._append(plain[0])
                position = plain.end()
            elif token := _TOKEN.match(text, position):
                self._take(token)
                position = token.end()
            else:
                position += 1
            final.append(self._scrolled())
        return "".join(final)

    def rows(self) -> str:
        """What the screen shows now, without a line end at its end."""
        return "\n".join(self._rows).replace(_SECOND, "")

    def _at_end(self) -> bool:
        return self._row == len(self._rows) - 1 and self._column == len(self._rows[-1])

    def _append(self, text: str) -> None:
        first, *others = _with_columns(text).split("\n")
        self._rows[-1] += first
        self._rows += others
        self._row, self._column = len(self._rows) - 1, len(self._rows[-1])

    def _scrolled(self) -> str:
        """Take off what is above the screen, and of an endless row what the cursor cannot reach."""
        off = ""
        last = self._rows[-1]
        if len(self._rows) > 2 * HEIGHT or len(last) > 2 * WIDTH:
            gone = len(self._rows) - (1 if len(last) > 2 * WIDTH else HEIGHT)
            off = "".join(f"{row}\n" for row in self._rows[:gone])
            del self._rows[:gone]
            self._row = max(0, self._row - gone)
        if len(last) > 2 * WIDTH:
            off += last[:-WIDTH]
            self._rows[0] = last[-WIDTH:]
            self._column = max(0, self._column - len(last) + WIDTH)
        return "" if self._main is not None else off.replace(_SECOND, "")

    def _take(self, token: re.Match[str]) -> None:
        kind, sign = token.lastgroup, token[0][-1]
        numbers = token["numbers"] or ""
        if kind == "text":
            self._write(token[0])
        elif kind == "string":
            self._in_string = True
        elif kind == "control":
            self._control(sign)
        elif kind == "final" and numbers in _OTHER_SCREENS:
            self._show_other(sign == "h")
        elif kind == "final":
            given = [min(int(number), WIDTH) if number.isdecimal() else 0 for number in numbers.split(";")]
            self._move(sign, given[0] or 1, given[1] or 1 if len(given) > 1 else 1)
            self._erase(sign, given[0])
        elif kind == "escape" and sign in "78":
            self._move("s" if sign == "7" else "u", 1, 1)

    def _write(self, text: str) -> None:
        text = _with_columns(text)
        row, end = self._rows[self._row], self._column + len(text)
        row = row[: self._column].ljust(self._column) + text + row[end:]
        if text.isspace():  # which erases
            row = row.rstrip(" ")
        self._rows[self._row] = row if self._row == len(self._rows) - 1 else row[: 2 * WIDTH]
        self._column = end

    def _control(self, sign: str) -> None:
        if sign == "\r":
            self._column = 0
        elif sign == "\b":
            self._column = max(0, self._column - 1)
        elif sign == "\t" and self._column >= len(self._rows[self._row]):
            self._write("\t".ljust(8 - self._column % 8, _SECOND))
        elif sign == "\t":
            self._column += 8 - self._column % 8
        elif sign in "\n\v\f":
            self._row, self._column = self._row + 1, 0
            self._rows += [""] * (self._row + 1 - len(self._rows))

    def _move(self, sign: str, count: int, second: int) -> None:
        row, column, top = self._row, self._column, self._top
        if sign == "s":
            self._saved = (row, column)
            return
        row, column = {
            "A": (row - count, column),
            "B": (row + count, column),
            "C": (row, column + count),
            "D": (row, column - count),
            "E": (row + count, 0),
            "F": (row - count, 0),
            "G": (row, count - 1),
            "H": (top + count - 1, second - 1),
            "d": (top + count - 1, column),
            "f": (top + count - 1, second - 1),
            "u": self._saved,
        }.get(sign, (row, column))
        self._row = min(max(row, top), top + HEIGHT - 1)
        self._column = min(max(column, 0), WIDTH)
        self._rows += [""] * (self._row + 1 - len(self._rows))

    @property
    def _top(self) -> int:
        return max(0, len(self._rows) - HEIGHT)

    def _erase(self, sign: str, which: int) -> None:
        """From the cursor to the end (0), from the start to the cursor (1), or all: of the row or screen."""
        if sign not in ("J", "K") or which > 2:
            return
        text, column = self._rows[self._row], self._column
        before = text[:column] if which == 0 else ""
        after = text[column + 1 :] if which == 1 else ""
        self._rows[self._row] = " " * (column + 1) + after if after else before
        if sign == "J" and which != 1:
            del self._rows[self._row + 1 :]
        if sign == "J" and which:
            self._rows[self._top : self._row] = [""] * (self._row - self._top)

    def _show_other(self, on: bool) -> None:
        """Change to a screen of its own, as editors and pagers use, or back to what was there before."""
        if on and self._main is None:
            self._main, self._rows = self._rows, [""]
            self._row = self._column = 0
        elif not on and self._main is not None:
            self._rows, self._main = self._main, None
            self._row, self._column = len(self._rows) - 1, len(self._rows[-1])


def _with_columns(text: str) -> str:
    return text if text.isascii() else _WIDE.sub(rf"\g<0>{_SECOND}", text)
