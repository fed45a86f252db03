"""Cuts a document into messages that a chat platform accepts, without tearing what belongs together.

Nothing a model writes makes a platform refuse the result: styles that are cut are closed at the end of a
message and opened again in the next.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from nanobot.channels.dialects import Dialect, Escapes, escaped
from nanobot.channels.markup import Run, Style, runs_of, shown

# Of a paragraph, a line, a sentence, a word; each at the end of a match.
_PATTERNS = (r"(?=\n\n)", r"(?=\n)", r"[.!?…]['\")\]»”]*(?=\s)|[。！？]", r"(?=\s)")
_BORDERS = tuple(re.compile(pattern) for pattern in _PATTERNS)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A message in a dialect as `text`, without any markup as `plain`. At a `fill` of 1 it is full."""

    text: str
    plain: str
    fill: float


def render_pieces(markdown: str, dialect: Dialect) -> Iterator[Rendered]:
    """As many messages as are needed, none for a blank text. Nothing but white space at the cuts is lost.

    Cuts at the border of a paragraph, else a line, a sentence, a word, a character cluster; in code between
    lines, and only where a block is too long for a message.
    """
    document = _Document(runs_of(markdown, dialect), dialect)
    position = 0
    while position < len(document.text):
        end = position + dialect.limit
        while True:
            cut, following = document.cut(position, end)
            piece = document.render(position, cut)
            if piece.fill <= 1 or cut <= position + 1:
                break
            end = position + max(1, int((cut - position) / piece.fill))  # markup made it longer
        if piece.plain:
            yield piece
        position = following


class _Document:
    def __init__(self, runs: list[Run], dialect: Dialect) -> None:
        self.text = shown(runs)
        self._runs = runs
        self._dialect = dialect
        self._starts = [0, *accumulate(len(run.text) for run in runs)]

    def render(self, start: int, end: int) -> Rendered:
        """What is shown from `start` to `end`, without the space at the end."""
        end = start + len(self.text[start:end].rstrip())
        first, last = self._run_at(start), self._run_at(end - 1) + 1
        runs = [
            run._replace(text=run.text[max(start - begun, 0) : end - begun])
            for run, begun in zip(self._runs[first:last], self._starts[first:last], strict=True)
        ]
        return _written(runs, self._dialect)

    def cut(self, start: int, end: int) -> tuple[int, int]:
        """Where a message from `start`, which has room up to `end`, is cut; and where the next one starts."""
        if end >= len(self.text):
            return len(self.text), len(self.text)
        cut = _border(self.text, start, end)
        index = self._run_at(cut)
        begun, over = self._starts[index], self._starts[index + 1]
        torn = begun < cut and any(style.block for style in self._runs[index].styles)
        if not torn or over <= end:
            cut = over if torn else cut
            return cut, self._skip_blank(cut)
        late = begun - start > (end - start) // 2
        if begun > start and (late or self._fits(begun, over)):
            return begun, begun
        newline = self.text.rfind("\n", max(start, begun) + 1, end + 1)
        if newline > 0:
            return newline, newline + 1
        cut = _cluster_border(self.text, max(start, begun), end)
        return cut, cut

    def _fits(self, start: int, end: int) -> bool:
        return end - start <= self._dialect.limit and self.render(start, end).fill <= 1

    def _run_at(self, position: int) -> int:
        return bisect_right(self._starts, position) - 1

    def _skip_blank(self, position: int) -> int:
        """Past the white space at a cut, but not past the indentation of the next line."""
        end = position
        while end < len(self.text) and self.text[end].isspace():
            end += 1
        newline = self.text.rfind("\n", position, end)
        return newline + 1 if newline >= 0 and end < len(self.text) else end


def _written(runs: list[Run], dialect: Dialect) -> Rendered:
    """The runs with the marks of their styles."""
    escapes: dict[str, Escapes] = {"text": dialect.escape, "code": dialect.escape_code, "layout": ()}
    escapes |= {"address": dialect.escape_code, "inline": dialect.escape_inline + dialect.escape_code}
    text, plain = list[str](), list[str]()
    opened: tuple[Style, ...] = ()
    for run in (*runs, Run("")):
        same = 0
        while same < min(len(opened), len(run.styles)) and opened[same] is run.styles[same]:
            same += 1
        for depth in range(len(opened) - 1, same - 1, -1):
            text.append(_prefixed(opened[depth].closing, opened[: depth + 1]))
            plain.append(opened[depth].note)
        opened = run.styles
        for depth in range(same, len(opened)):
            text += [_prefixed(opened[depth].opening, opened[:depth]), opened[depth].line]
            plain.append(opened[depth].line)
        text.append(_prefixed(escaped(run.text, escapes[run.kind]), opened))
        plain.append(_prefixed(run.text, opened))
    written, seen, noted = "".join(text), shown(runs), "".join(plain).strip()
    fill = dialect.length(written if dialect.counts_markup else seen) / dialect.limit
    if dialect.byte_limit:
        fill = max(fill, len(written.encode()) / dialect.byte_limit)
    return Rendered(written, noted if dialect.length(noted) <= dialect.limit else seen.strip(), fill)


def _prefixed(text: str, styles: tuple[Style, ...]) -> str:
    return text.replace("\n", "\n" + "".join(style.line for style in styles))


def _border(text: str, start: int, end: int) -> int:
    """Where to cut `text[start:end]`: the best border after its first third, else the last word border."""
    early = start + (end - start) // 3
    for border, after in (*((border, early) for border in _BORDERS), (_BORDERS[-1], start)):
        # What shows that there is one may stand beyond the end: a border there fills the piece exactly.
        cuts = [match.end() for match in border.finditer(text, after, end + 2) if after < match.end() <= end]
        if cuts:
            return cuts[-1]
    return _cluster_border(text, start, end)


def _cluster_border(text: str, start: int, end: int) -> int:
    """The last position up to `end` that is not inside a character people see as one."""
    from wcwidth import grapheme_boundary_before

    cut = grapheme_boundary_before(text, end + 1) if end < len(text) else end
    return cut if cut > start else end
