"""What reaches a terminal: cleaned text, and a few live lines below everything that is final."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS and kin: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_ERASE_LINE = "\x1b[2K"
_STYLES = re.compile(r"\x1b\[[0-9;]*m")


def clean(text: str) -> str:
    """`text` without escape sequences, control and direction-override characters.

    What a model, a tool or a server wrote must not be able to steer the owner's terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("", lines)


def without_styles(line: str) -> str:
    """A line that is ready for the terminal as it looks without colours."""
    return _STYLES.sub("", line)


def one_line(text: str, limit: int) -> str:
    """The cleaned first line of `text`, at most `limit` characters."""
    line = " ".join(clean(text).strip().split("\n", 1)[0].split())
    return line if len(line) <= limit else line[: max(1, limit - 1)] + "…"


def complain(text: str) -> None:
    """Print a line for the owner on stderr."""
    print(clean(text), file=sys.stderr)


def terminal_is_smart() -> bool:
    """Whether stdout is a terminal that understands cursor movement."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def can_print(characters: str, out: TextIO) -> bool:
    """Whether `out` can show these characters in its encoding."""
    try:
        characters.encode(out.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def quiet_keys() -> Iterator[None]:
    """Keep keys typed meanwhile from being echoed into the output; they stay readable for the next prompt."""
    if not sys.stdin.isatty():
        yield
        return
    import termios

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


class Screen:
    """Final lines that scroll away, and below them live lines that are repainted in place.

    Lines are ready for the terminal, styles included. Repainting writes once and
    touches only the lines that changed, so nothing flickers.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live: list[str] = []
        self._width = 0

    @property
    def width(self) -> int:
        """Columns of the terminal right now."""
        return max(10, shutil.get_terminal_size().columns)

    @property
    def room(self) -> int:
        """How many live lines fit: never the whole screen, or repainting would scroll."""
        return max(1, shutil.get_terminal_size().lines - 2)

    def paint(self, final: Sequence[str], live: Sequence[str]) -> None:
        """Print `final` above the live lines and replace those by `live` (cut from the top to fit)."""
        width, shown = self.width, self._fitting(live)
        kept = 0 if final or width != self._width else _common_prefix(self._live, shown)
        if kept == len(self._live) == len(shown) and not final:
            return
        rows = sum(_rows(line, width) for line in self._live[kept:])
        up = f"\x1b[{rows}A\r" if rows else ""
        lines = (*final, *shown[kept:])
        text = "".join(f"{_ERASE_LINE}{line}\n" for line in lines)
        left = rows - sum(_rows(line, width) for line in lines)
        self._live, self._width = shown, width
        self._out.write((_HIDE_CURSOR if shown else _SHOW_CURSOR) + up + text + _erase_rows(left))
        self._out.flush()

    def close(self) -> None:
        """Remove the live lines."""
        self.paint((), ())

    def _fitting(self, lines: Sequence[str]) -> list[str]:
        """The last of `lines` that fit on the screen."""
        room, width = self.room, self.width
        first = len(lines)
        while first and (room := room - _rows(lines[first - 1], width)) >= 0:
            first -= 1
        return list(lines[first:])


def _erase_rows(count: int) -> str:
    """Empty `count` rows from the cursor on and stay. Not with "erase below": tmux keeps a copy of that."""
    if count <= 0:
        return ""
    return _ERASE_LINE + f"\x1b[B{_ERASE_LINE}" * (count - 1) + (f"\x1b[{count - 1}A" if count > 1 else "")


def _rows(line: str, width: int) -> int:
    """Rows that a terminal of `width` columns needs for `line`: more than one after it was narrowed."""
    from rich.cells import cell_len

    return max(1, -(-cell_len(without_styles(line)) // width))


def _common_prefix(one: Sequence[str], other: Sequence[str]) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length
