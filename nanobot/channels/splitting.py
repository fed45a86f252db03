"""Cut a long text into messages that a chat platform accepts, without tearing what belongs together."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

Length = Callable[[str], int]

# A fence may stand in a list item or a quotation, so its line may start with their markers.
_FENCE = re.compile(r"(?P<indent>[ \t>]*)(?P<items>(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<mark>`{3,}|~{3,})")
_SENTENCE_END = re.compile(r"[.!?…]['\")\]»”]*(?=\s)|[。！？]")
_SPACE = re.compile(r"\s")
_LONGEST_CLUSTER = 32


def utf16_len(text: str) -> int:
    """The length in UTF-16 code units, as Telegram counts."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def split_text(text: str, limit: int, *, length: Length = len) -> list[str]:
    """`text` in pieces of at most `limit` each, measured by `length`; an empty text gives no piece.

    Cuts at the border of a paragraph, else a line, a sentence, a word, a character cluster. A code
    fence that is cut is closed at the end of its piece and opened again, with the same info string,
    in the next. Nothing but white space at the cuts is lost. A fence whose opening line takes more
    than half of the limit is treated as ordinary text. Raises ValueError for a limit below 2, the
    length of one emoji in UTF-16. `length` must never count less than one per character.
    """
    if limit < 2:
        raise ValueError("limit must be at least 2")
    return _Splitter(text, limit, length).pieces()


@dataclass(frozen=True, slots=True)
class _Fence:
    """A code fence from `start` to `end`, its content from `inside` to `outside`.

    `opening` and `closing` are the lines that a piece in its middle needs around it.
    """

    start: int
    inside: int
    outside: int
    end: int
    opening: str
    closing: str


class _Splitter:
    def __init__(self, text: str, limit: int, length: Length) -> None:
        self._text = text
        self._limit = limit
        self._length = length
        self._fences = [fence for fence in _find_fences(text) if self._leaves_room(fence)]
        self._starts = [fence.start for fence in self._fences]

    def pieces(self) -> list[str]:
        pieces = []
        position = 0
        while position < len(self._text):
            piece, position = self._next(position)
            if piece.strip():
                pieces.append(piece)
        return pieces

    def _leaves_room(self, fence: _Fence) -> bool:
        opening = self._text[fence.start : fence.inside]
        return self._length(opening) + self._length(fence.closing) + 2 <= self._limit // 2

    def _next(self, position: int) -> tuple[str, int]:
        """The piece that starts at `position`, and where the one after it starts."""
        opened = self._fence_around(position)
        prefix = opened.opening + "\n" if opened else ""
        budget = self._limit - self._length(prefix)
        end = self._fit(position, budget)
        if end == len(self._text):
            return prefix + self._text[position:].rstrip(), end
        cut = _border(self._text, position, end)
        fence = self._fence_around(cut)
        if fence is not None and fence.end <= end:
            cut, fence = fence.end, None  # all of it fits
        if fence is None:
            return prefix + self._text[position:cut].rstrip(), self._skip_blank(cut)
        if fence.start > position and self._better_before(fence, position, end):
            return prefix + self._text[position : fence.start].rstrip(), fence.start
        return self._cut_fence(position, prefix, budget, fence)

    def _better_before(self, fence: _Fence, position: int, end: int) -> bool:
        """Whether to cut before the fence: when it fits into the next piece, or this one is half full."""
        if fence.start - position > (end - position) // 2:
            return True
        return self._length(self._text[fence.start : fence.end]) <= self._limit

    def _cut_fence(self, position: int, prefix: str, budget: int, fence: _Fence) -> tuple[str, int]:
        end = min(fence.outside, self._fit(position, budget - self._length(fence.closing) - 1))
        first = max(position, fence.inside)
        if end <= first:
            return prefix + self._text[position : fence.start].rstrip(), fence.start
        newline = self._text.rfind("\n", first + 1, end + 1)
        cut = newline if newline > first else _cluster_border(self._text, first, end)
        following = cut + 1 if newline > first else cut
        if following >= fence.outside:
            following = fence.end  # only the closing line was left, and this piece brings its own
        return f"{prefix}{self._text[position:cut]}\n{fence.closing}", following

    def _fit(self, position: int, budget: int) -> int:
        """The furthest end for which `text[position:end]` measures at most `budget`."""
        window = self._text[position : position + max(budget, 0)]
        if self._length(window) <= budget:
            return position + len(window)
        sizes = range(len(window) + 1)
        return position + bisect_right(sizes, budget, key=lambda size: self._length(window[:size])) - 1

    def _fence_around(self, position: int) -> _Fence | None:
        """The fence that a cut at `position` would tear."""
        index = bisect_right(self._starts, position) - 1
        if index < 0:
            return None
        fence = self._fences[index]
        return fence if fence.start < position < fence.end else None

    def _skip_blank(self, position: int) -> int:
        """Past the white space at a cut, but not past the indentation of the next line."""
        end = position
        while end < len(self._text) and self._text[end].isspace():
            end += 1
        newline = self._text.rfind("\n", position, end)
        if newline >= 0 and end < len(self._text):
            return newline + 1
        return end


def _find_fences(text: str) -> list[_Fence]:
    fences = []
    opened: re.Match[str] | None = None
    position = 0
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if opened is None:
            # With another backtick after the opening ones, the line is inline code.
            if match and not (match["mark"][0] == "`" and "`" in line[match.end() :]):
                opened, start, inside = match, position, position + len(line) + 1
        elif match and _closes(match, opened):
            fences.append(_fence(opened, start, inside, position, position + len(line)))
            opened = None
        position += len(line) + 1
    if opened is not None and inside < len(text):
        fences.append(_fence(opened, start, inside, len(text), len(text)))
    return fences


def _closes(match: re.Match[str], opened: re.Match[str]) -> bool:
    same_mark = match["mark"].startswith(opened["mark"])
    same_depth = match["indent"].count(">") == opened["indent"].count(">")
    bare = not match["items"] and not match.string[match.end() :].strip()
    return same_mark and same_depth and bare


def _fence(opened: re.Match[str], start: int, inside: int, outside: int, end: int) -> _Fence:
    # Outside its list, a deeply indented fence would no longer be one: three spaces at most.
    indent = opened["indent"] if ">" in opened["indent"] else " " * min(3, len(opened["indent"]))
    closing = indent + opened["mark"]
    return _Fence(start, inside, outside, end, closing + opened.string[opened.end() :].strip(), closing)


def _border(text: str, start: int, end: int) -> int:
    """Where to cut `text[start:end]`: the best border after its first third, else the last word border."""
    early = start + (end - start) // 3
    for mark in ("\n\n", "\n"):
        # One character beyond the end: a border there fills the piece exactly.
        found = text.rfind(mark, early, end + len(mark))
        if found > early:
            return found
    window_end = min(end + 1, len(text))
    for pattern, at_end in ((_SENTENCE_END, True), (_SPACE, False)):
        cuts = [m.end() if at_end else m.start() for m in pattern.finditer(text, early, window_end)]
        cuts = [cut for cut in cuts if early < cut <= end]
        if cuts:
            return cuts[-1]
    spaces = [m.start() for m in _SPACE.finditer(text, start + 1, early + 1)]
    return spaces[-1] if spaces else _cluster_border(text, start, end)


def _cluster_border(text: str, start: int, end: int) -> int:
    """The last position up to `end` that is not inside a character people see as one."""
    for cut in range(end, max(start, end - _LONGEST_CLUSTER), -1):
        if not _joined(text, cut):
            return cut
    return end


def _joined(text: str, cut: int) -> bool:
    """Whether the characters around `cut` belong together (combining, ZWJ, flags, CR LF, surrogates)."""
    if cut >= len(text):
        return False
    before, after = text[cut - 1], text[cut]
    if "\u200d" in (before, after) or unicodedata.category(after) in ("Mn", "Me", "Mc"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or (before == "\r" and after == "\n"):
        return True
    if "\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff":
        return True
    return _is_flag_letter(after) and _flag_letters_before(text, cut) % 2 == 1


def _is_flag_letter(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_letters_before(text: str, cut: int) -> int:
    count = 0
    while cut - count > 0 and count < 2 * _LONGEST_CLUSTER and _is_flag_letter(text[cut - count - 1]):
        count += 1
    return count
