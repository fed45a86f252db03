"""Markdown that arrives piece by piece, as terminal lines: those that are final and those that may change."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, ClassVar, cast

from rich.markdown import CodeBlock, Heading, Markdown, MarkdownElement, TableElement
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from nanobot.terminal.screen import clean, without_styles

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult

_TRAILING_BLANKS = re.compile(r"[ ]+((?:\x1b\[[0-9;]*m)*)$")
_UNFINISHED = re.compile(r"(?:\x1b[^\x1b]{0,31}|\r)?\Z")  # an escape sequence or line end that may go on

_COLUMN = 8  # cells that a column of a table takes at least


class _LeftHeading(Heading):
    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = {}


class _OpenCodeBlock(CodeBlock):
    """Code on the terminal's own background, wrapped and without padding, so that it copies cleanly."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(code, self.lexer_name, theme="ansi_dark", background_color="default", word_wrap=True)


class _WholeTable(TableElement):
    """A table that cuts nothing: cells are wrapped, and where columns get too narrow each row is a list."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        (table,) = super().__rich_console__(console, options)
        assert isinstance(table, Table)
        for column in table.columns:
            column.overflow = "fold"
        if options.max_width >= _COLUMN * len(table.columns):
            yield table
            return
        for row in zip(*(column.cells for column in table.columns), strict=True):
            yield Text()
            for column, cell in zip(table.columns, row, strict=True):
                yield Text.assemble(cast("Text", column.header), ": ", cast("Text", cell), overflow="fold")


class _Answer(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "heading_open": _LeftHeading,
        "table_open": _WholeTable,
        "fence": _OpenCodeBlock,
        "code_block": _OpenCodeBlock,
    }


class AnswerText:
    """An answer while it grows. Blocks (paragraph, list, code …) before the last one are final."""

    def __init__(self, console: Console, *, markdown: bool) -> None:
        self._console = console
        self._markdown = markdown
        self._held_back = ""
        self._text = ""
        self.separate = False  # whether a blank line goes before the next block

    def add(self, text: str) -> None:
        raw = self._held_back + text
        unfinished = _UNFINISHED.search(raw)
        self._held_back = unfinished[0] if unfinished else ""
        self._text += clean(raw.removesuffix(self._held_back))

    def discard(self) -> None:
        """Forget what has not become final."""
        self._held_back = self._text = ""

    def advance(self, width: int) -> tuple[list[str], list[str]]:
        """The lines that became final since the last call, and those that may still change."""
        *done, self._text = self._split()
        final = [line for block in done for line in self._finish(block, width)]
        return final, self._lines(self._text, width)

    def finish(self, width: int) -> list[str]:
        """The rest of the answer as final lines."""
        self._text += clean(self._held_back)
        if self._text and not self._text.endswith("\n"):
            self._text += "\n"
        lines = [line for block in self._split() for line in self._finish(block, width)]
        self.discard()
        self.separate = True
        return lines

    def _finish(self, block: str, width: int) -> list[str]:
        lines = self._lines(block, width)
        self.separate = self._markdown if lines else self.separate
        return lines

    def _split(self) -> list[str]:
        """The text as blocks; the last one can still change. An unfinished line begins no block."""
        whole, end, rest = self._text.rpartition("\n")
        if not self._markdown:
            return [whole + end, rest]
        lines = [*whole.split("\n"), rest] if end else [rest]
        starts = [token.map[0] for token in _Answer(whole).parsed if token.level == 0 and token.map]
        cuts = [0, *starts[1:], len(lines)]
        return ["\n".join(lines[start:stop]) for start, stop in itertools.pairwise(cuts)]

    def _lines(self, block: str, width: int) -> list[str]:
        if not block:
            return []
        if self._markdown:
            lines = _without_margins(render(self._console, _Answer(block, hyperlinks=False), width))
        else:
            lines = render(self._console, Text(block.removesuffix("\n")), width)
        return ["", *lines] if lines and self.separate else lines


def render(
    console: Console, content: RenderableType, width: int, *, style: str = "", cut: bool = False
) -> list[str]:
    """`content` as lines for the terminal, without trailing blanks; too long ones are wrapped or `cut`."""
    with console.capture() as capture:
        console.print(content, style=style, width=width, no_wrap=cut, overflow="ellipsis" if cut else "fold")
    return [_TRAILING_BLANKS.sub(r"\1", line) for line in capture.get().split("\n")[:-1]]


def _without_margins(lines: list[str]) -> list[str]:
    filled = [number for number, line in enumerate(lines) if without_styles(line).strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []
