"""Finding the text an edit means, and saying what was found instead. Pure functions, for edit_file."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence

NEAR_MISS_LINES = 200
FUZZY_LINES = 20_000
FUZZY_CHARS = 190  # difflib leaves common letters out of longer ones
DIFF_LINES = 30

_LINE_END = re.compile(r"\r?\n")


def replaced(text: str, position: int, old: str, new: str) -> str:
    """`text` with `new` for the `old` at `position` of `text.replace("\\r\\n", "\\n")`.

    Every line that stays keeps its line end, others get the one of the place.
    """
    before = text.replace("\r\n", "\n")[:position].count("\n")
    crlf = [line.endswith("\r") for line in text.split("\n")[:-1]]  # of each line end of the text
    there = crlf[before : before + old.count("\n")]
    start = position + sum(crlf[:before])
    end = start + len(old) + sum(there)
    old_lines, new_lines = old.split("\n"), new.split("\n")
    most = min(len(old_lines), len(new_lines)) - 1
    head = next((n for n in range(most) if old_lines[n] != new_lines[n]), most)
    tail = next((n for n in range(most - head) if old_lines[-1 - n] != new_lines[-1 - n]), most - head)
    usual = [*there[head:], *crlf[before + len(there) :], *crlf[:before][-1:], False][0]
    ends = [*there[:head], *[usual] * (len(new_lines) - 1 - head - tail), *there[len(there) - tail :]]
    lines = [line + ("\r\n" if end else "\n") for line, end in zip(new_lines, ends, strict=False)]
    return text[:start] + "".join(lines) + new_lines[-1] + text[end:]


def occurrences(text: str, old: str) -> str:
    """Where `old` occurs in `text`, for a text in which it occurs more than once."""
    lines: list[str] = []
    position = text.find(old)
    while position >= 0 and len(lines) < 10:
        lines.append(str(text.count("\n", 0, position) + 1))
        position = text.find(old, position + 1)
    more = ", …" if position >= 0 else ""
    return f"occurs {max(text.count(old), 2)} times, at lines {', '.join(lines)}{more}"


def near_miss(text: str, old: str) -> str:
    """The place of `text` most like `old`, as a small diff. The cost is linear in the text."""
    wanted = _lines(old)[:NEAR_MISS_LINES]
    lines = _lines(text)
    start = _best_start([_squeezed(line) for line in lines], [_squeezed(line) for line in wanted])
    if start is None:
        return "Nothing in the file resembles it; read_file shows what is there."
    found = lines[start : start + len(wanted)]
    same = [_squeezed(line) for line in found] == [_squeezed(line) for line in wanted]
    what = "Only whitespace differs" if same else "The nearest text is"
    return f"{what} at line {start + 1} (- old_text, + file):\n{_diff_lines(wanted, found, start + 1)}"


def diff(before: str, after: str, first_line: int) -> str:
    """A small unified diff, numbered by the lines of the file."""
    return _diff_lines(_lines(before)[:400], _lines(after)[:400], first_line)


def _best_start(lines: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Index of the line where `wanted` fits best: by equal lines, else by its longest line."""
    places = {line: number for number, line in reversed([*enumerate(wanted)]) if line}
    votes: Counter[int] = Counter()
    for number, line in enumerate(lines):
        if line in places:
            votes[number - places[line]] += 1 + len(line)
    if votes:
        return max(0, votes.most_common(1)[0][0])
    longest = max(places, key=len, default="")
    short = [line[: 2 * FUZZY_CHARS] for line in lines[:FUZZY_LINES]]
    nearest = longest and difflib.get_close_matches(longest[:FUZZY_CHARS], short, n=1, cutoff=0.5)
    return max(0, short.index(nearest[0]) - places[longest]) if nearest else None


def _diff_lines(before: Sequence[str], after: Sequence[str], first_line: int) -> str:
    lines = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
    shown = [_numbered(line, first_line)[:200] for line in lines[:DIFF_LINES]]
    if len(lines) > DIFF_LINES:
        shown.append(f"[{len(lines) - DIFF_LINES} more lines of difference]")
    return "\n".join(shown)


def _numbered(line: str, first_line: int) -> str:
    """The `@@ -3,2 +3,4 @@` of a hunk as the line of the file; other lines as they are."""
    hunk = re.match(r"@@ -(\d+)\S* \+\S+ @@$", line)
    return f"@@ line {first_line + max(int(hunk[1]), 1) - 1} @@" if hunk else line


def _lines(text: str) -> list[str]:
    lines = _LINE_END.split(text)
    return lines[:-1] if lines[-1] == "" else lines


def _squeezed(line: str) -> str:
    return " ".join(line.split())
