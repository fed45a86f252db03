"""Whether HEARTBEAT.md asks for anything: looking costs nothing, a model that finds nothing to do does.

Whoever writes an open task is never passed over: a line of prose, a list item, a box, a row of a table.
What only decorates it is no task: headings, rules, fences, quotes, table heads, comments, front matter.
"""

from __future__ import annotations

import hashlib
import re
from itertools import zip_longest

_COMMENT = re.compile(r"<!--.*?(?:-->[ \t]*|\Z)", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][\w-]{0,30}\s?/?>")
_STRUCK_TAG = re.compile(r"</?(?:del|s|strike)>", re.IGNORECASE)
_STRUCK = re.compile(r"~~[^~]+~~")
# Keys, lists, comments and what is further in, up to the closing line; but no open box.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?=[\w.-]+:\s)"
    r"(?:(?!.*\[ \])(?:[\w.-]+:(?:[ \t].*)?|[ \t#].*|- .*|)\n)*?"
    r"(?:---|\.{3})[ \t]*(?:\n|\Z)"
)
_LINE = re.compile(r"(\s*)((?:[>#]\s*|(?:[-*+•]|\d{1,9}[.)])(?:\s+|\Z))*)(\[.?\](?=\s|\Z))?(.*)")
_FENCE = re.compile(r"(?:`{3,}|~{3,})\s*[\w+#.-]*")
_BOLD = re.compile(r"[^\w*]{0,9}(\*{2,3}|__)[^*_]+\1[^\w*]{0,9}")
_UNDERLINE = re.compile(r"(={3,}|-{3,})\s*")
_TABLE_RULE = re.compile(r"[\s:|+-]+")
_MARKDOWN_COMMENT = re.compile(r"\[[^\]]+\]:\s*(?:#|<>)")
_NOTHING = 1_000_000_000  # an indent that no line has
_DONE = {f"[{mark}]" for mark in "xX✓✔✅☑"}
# SHA-256 of the lines that the older nanobot has written into every new workspace about this file itself.
_OLDER_TEMPLATE = {"ca7d11579a957587", "cfb33971d4f8f8bd", "f224bc137e5bd0f9"}


def has_open_task(text: str) -> bool:
    """Whether `text`, a HEARTBEAT.md, holds anything to do; linear in its length."""
    text = "\n".join(_COMMENT.sub("", _STRUCK_TAG.sub("~~", text)).splitlines())
    lines = _FRONT_MATTER.sub("", text).splitlines()
    notes_of = _NOTHING  # the indent of the done task above, whose notes are further in
    for line, below in zip_longest(lines, lines[1:], fillvalue=""):
        found = _LINE.fullmatch(line.expandtabs(4))
        if found is None or not line.strip():
            continue
        indent, marks, box, words = len(found[1]), found[2], found[3] or "", _TAG.sub("", found[4]).strip()
        if indent <= notes_of:
            notes_of = _NOTHING
        left = _STRUCK.sub("", words)
        if box in _DONE or (left != words and not _says_anything(left)):
            notes_of = min(notes_of, indent)
        elif _says_anything(words) and (box or (indent <= notes_of and not _decorates(marks, words, below))):
            return True
    return False


def _says_anything(words: str) -> bool:
    return any(character.isalnum() for character in words)


def _decorates(marks: str, words: str, below: str) -> bool:
    """Whether a line with these `words` behind its marks, above the line `below`, is no task."""
    if marks.startswith(("#", ">")):
        return True
    if marks:
        return False
    if words.startswith("|") and _all_cells_done(words):
        return True
    line = _UNDERLINE.fullmatch(below)
    # Dashes below a task are a rule, unless they are made to measure.
    underlined = line and (line[1][0] == "=" or abs(len(line[1]) - len(words)) <= 3)
    table_head = "|" in words and "|" in below and _TABLE_RULE.fullmatch(below)
    shapes = (_FENCE.fullmatch(words), _BOLD.fullmatch(words), _MARKDOWN_COMMENT.match(words))
    template_line = hashlib.sha256(words.encode()).hexdigest()[:16]
    return bool(underlined or table_head or any(shapes) or template_line in _OLDER_TEMPLATE)


def _all_cells_done(row: str) -> bool:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    boxes = {cell[:3] for cell in cells} & {"[ ]", *_DONE}
    if boxes:
        return "[ ]" not in boxes
    return not any(_says_anything(_STRUCK.sub("", cell)) for cell in cells)
