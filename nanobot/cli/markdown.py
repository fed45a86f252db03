"""Markdown that arrives piece by piece, as terminal lines: those that are final and those that may change."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, ClassVar

from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement
from rich.syntax import Syntax
from rich.text import Text

from nanobot.cli.screen import clean, without_styles

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

_TRAILING_BLANKS = re.compile(r"[ ]+((?:\x1b\[[0-9;]*m)*)$")
_LONGEST_ESCAPE = 32  # characters; what looks longer is no escape sequence


class _LeftHeading(Heading):
    """Headings where they stand, not centred and boxed."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self.text.justify = "left"
        self.text.stylize("bold")
        yield self.text


class _OpenCodeBlock(CodeBlock):
    """Code on the terminal's own background, wrapped and without padding, so that it copies cleanly."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)


class _Answer(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _LeftHeading,
        "fence": _OpenCodeBlock,
        "code_block": _OpenCodeBlock,
    }


class AnswerText:
    """The text of an answer while it grows.

    Blocks (paragraph, list, code …) before the last one cannot change any more. Of a last block that
    is taller than the room given to it, the upper lines are taken as final too; from then on the
    block keeps its width.
    """

    def __init__(self, console: Console, *, markdown: bool) -> None:
        self._console = console
        self._markdown = markdown
        self._held_back = ""
        self._text = ""
        self._printed = 0  # lines of the last block that are final already
        self._printed_width = 0
        self.separate = False  # whether a blank line goes before the next block

    def __bool__(self) -> bool:
        return bool(self._text or self._held_back)

    def add(self, text: str) -> None:
        raw = self._held_back + text
        cut = _whole_escapes(raw)
        self._text += clean(raw[:cut])
        self._held_back = raw[cut:]

    def discard(self) -> None:
        """Forget what has not become final."""
        self._held_back = self._text = ""
        self._printed = self._printed_width = 0

    def advance(self, width: int, room: int) -> tuple[list[str], list[str]]:
        """The lines that became final since the last call, and those that may still change."""
        *done, self._text = self._split()
        final = [line for block in done for line in self._finish(block, width)]
        lines = self._block(self._text, width)
        overflow = max(self._printed, len(lines) - max(1, room))
        if overflow > self._printed:
            final += lines[self._printed : overflow]
            self._printed, self._printed_width = overflow, self._printed_width or width
        return final, lines[overflow:]

    def finish(self, width: int) -> list[str]:
        """The rest of the answer as final lines."""
        self._text += clean(self._held_back)
        lines = [line for block in self._split() for line in self._finish(block, width)]
        self.discard()
        self.separate = True
        return lines

    def _finish(self, text: str, width: int) -> list[str]:
        if not text:
            return []
        lines = self._block(text, width)[self._printed :]
        self._printed = self._printed_width = 0
        self.separate = self._markdown
        return lines

    def _split(self) -> list[str]:
        """The text as blocks; only the last one can still change."""
        if not self._markdown:
            whole, end, rest = self._text.rpartition("\n")
            return [whole + end, rest]
        lines = self._text.split("\n")
        starts = [token.map[0] for token in _Answer(self._text).parsed if token.level == 0 and token.map]
        cuts = [0, *starts[1:], len(lines)]
        return ["\n".join(lines[start:end]) for start, end in itertools.pairwise(cuts)]

    def _block(self, text: str, width: int) -> list[str]:
        lines = self._render(text, self._printed_width or width) if text else []
        return ["", *lines] if lines and self.separate else lines

    def _render(self, text: str, width: int) -> list[str]:
        if self._markdown:
            answer: RenderableType = _Answer(text, hyperlinks=False)
        else:
            answer = Text(text.removesuffix("\n"))
        with self._console.capture() as capture:
            self._console.print(answer, width=width)
        lines = [_TRAILING_BLANKS.sub(r"\1", line) for line in capture.get().split("\n")[:-1]]
        return _without_margins(lines) if self._markdown else lines


def _whole_escapes(raw: str) -> int:
    """Where to cut `raw` so that an escape sequence or line end that may go on is not split."""
    start = raw.rfind("\x1b", -_LONGEST_ESCAPE)
    if start >= 0:
        return start
    return len(raw) - raw.endswith("\r")


def _without_margins(lines: list[str]) -> list[str]:
    filled = [number for number, line in enumerate(lines) if without_styles(line).strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []
