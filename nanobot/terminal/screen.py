"""What reaches a terminal: cleaned text, and a few live lines below everything that is final."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC, DCS and kin: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WIDEST_LABEL = 16  # columns
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
    """The cleaned first line of `text`, at most `limit` cells wide."""
    from nanobot.columns import shortened

    return shortened(" ".join(clean(text).strip().split("\n", 1)[0].split()), limit)


def wrapped(text: str, out: TextIO) -> str:
    """Cleaned lines, broken at words if `out` is a terminal; what goes on stands below where it began."""
    if not out.isatty():
        return clean(text)
    return "\n".join(map(_wrapped_line, clean(text).split("\n")))


def _wrapped_line(line: str) -> str:
    import textwrap

    begin = len(line) - len(line.lstrip(" "))
    gap = line.find("  ", begin)  # behind the label of a row
    label = len(line) - len(line[gap:].lstrip(" ")) if gap > 0 else begin
    indent = " " * (label if label <= _WIDEST_LABEL else begin)
    width = shutil.get_terminal_size().columns - 1
    wrap = textwrap.TextWrapper(width, subsequent_indent=indent, break_on_hyphens=False)
    wrap.break_long_words = False  # addresses stay whole
    return wrap.fill(line)


def complain(text: str) -> None:
    """Print a line for the owner on stderr; what it names as `nanobot …` can be typed as it stands."""
    from nanobot.paths import program

    print(wrapped(text.replace("`nanobot ", f"`{program()} "), sys.stderr), file=sys.stderr)


def terminal_is_smart(out: TextIO | None = None) -> bool:
    """Whether `out` (stdout) is a terminal that understands cursor movement."""
    return (out or sys.stdout).isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def take_stdout() -> TextIO:
    """Standard output for the caller alone: what plugins and their programs print goes to stderr."""
    sys.stdout.flush()
    number = sys.stdout.fileno()
    out = os.fdopen(os.dup(number), "w", encoding=sys.stdout.encoding, errors="replace")
    os.dup2(sys.stderr.fileno(), number)
    return out


class Screen:
    """Final lines that scroll away, and below them live lines that are repainted in place.

    Lines are ready for the terminal, styles included. A change is written at once and line over
    line, and only if there is one, so nothing flickers.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live: list[str] = []
        self._width = 0

    @property
    def width(self) -> int:
        """Columns of the terminal right now."""
        return max(10, shutil.get_terminal_size().columns)

    def paint(self, final: Sequence[str], live: Sequence[str]) -> None:
        """Print `final` above the live lines and replace those by the last of `live` that fit."""
        width = self.width
        room = max(1, shutil.get_terminal_size().lines - 2)  # with more, repainting would scroll
        shown = list(live[-room:])
        if not final and (shown, width) == (self._live, self._width):
            return
        rows = sum(_rows(line, width) for line in self._live)
        up = f"\x1b[{rows}A\r" if rows else ""
        lines = "".join(f"\x1b[2K{line}\n" for line in (*final, *shown))
        cursor = "\x1b[?25l" if shown else "\x1b[?25h"
        self._live, self._width = shown, width
        self._out.write(f"{cursor}{up}{lines}\x1b[J")
        self._out.flush()


def _rows(line: str, width: int) -> int:
    """Rows that a terminal of `width` columns needs for `line`: more than one after it was narrowed."""
    from nanobot.columns import cells

    return max(1, -(-cells(without_styles(line)) // width))
