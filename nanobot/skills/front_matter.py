"""The head of a SKILL.md: YAML between two lines of three dashes.

What is simple, `key: value` lines and JSON in one line, is read here; only the rest needs PyYAML, whose
import would cost every start more than reading eight skills. All plain values are texts, as YAML's base
schema has it: nothing in a skill depends on dates or numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

HEAD_CHARS = 10_000
NESTING = 300  # brackets; PyYAML takes seconds for thousands

_HEAD = re.compile(r"---[ \t]*\n(.*?\n)??---[ \t]*(?:\n|\Z)", re.DOTALL)
_LINE = re.compile(r"([A-Za-z][\w-]*): +(\S.*)")
_QUOTED = re.compile(r"\"([^\"\\]*)\"|'([^']*)'")
_LOOSE_LINE = re.compile(r"([A-Za-z][\w-]*)[ \t]*:[ \t]*(.*)")
_NOT_PLAIN = re.compile(r"[-?:][ \t]|[-?:]$|[\[\]{},#&*!|>'\"%@`]|.*(?::[ \t]|:$|[ \t]#)")


def read(text: str) -> tuple[Mapping[str, Any], str, str]:
    """(keys, what follows, what is wrong) of any SKILL.md; what is no YAML is read line by line."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").strip()
    head, body = text.partition("\n\n")[0] if text.startswith("---") else "", text
    try:
        head, body = split(text)
        return parse(head), body, ""
    except ValueError as error:
        lines = filter(None, map(_LOOSE_LINE.match, head.split("\n")))
        return {found[1]: found[2].strip("\"' ") for found in lines}, body, str(error)


def split(text: str) -> tuple[str, str]:
    """(front matter, what follows it) of a SKILL.md. Raises ValueError when there is no front matter."""
    found = _HEAD.match(text)
    if found is None:
        raise ValueError("it does not begin with front matter (--- lines around name and description)")
    head = found[1] or ""
    if len(head) > HEAD_CHARS:
        raise ValueError(f"its front matter is longer than {HEAD_CHARS:,} characters")
    return head, text[found.end() :].strip()


def parse(head: str) -> Mapping[str, Any]:
    """The keys of a front matter. Raises ValueError saying what cannot be read."""
    simple = read_simple(head)
    if simple is not None:
        return simple
    import yaml

    if head.count("[") + head.count("{") + head.count("- ") + head.count("? ") > NESTING:
        raise ValueError("its front matter has too many lists")
    faults: list[Exception] = []
    for text in (head, _with_quotes(head)):
        try:
            # The base loader knows texts, lists and mappings only: no objects, and no merge keys to blow up.
            keys = yaml.load(text, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            faults.append(error)
            continue
        if not isinstance(keys, Mapping):
            raise ValueError("its front matter is not a list of `key: value` lines")
        return keys
    mark = getattr(faults[0], "problem_mark", None)
    place = f" (line {mark.line + 2})" if mark else ""
    problem = getattr(faults[0], "problem", None) or "not readable"
    raise ValueError(f"its front matter is not valid YAML: {problem}{place}") from faults[0]


def read_simple(head: str) -> dict[str, Any] | None:
    """The keys if every line is `key: value`, with a plain or quoted text or a JSON object; else None."""
    keys: dict[str, Any] = {}
    for line in head.split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.rstrip(" "))
        if found is None or found[1] in keys or not found[2].isprintable():
            return None
        if quoted := _QUOTED.fullmatch(found[2]):
            keys[found[1]] = quoted[1] if quoted[1] is not None else quoted[2]
        elif found[2].startswith("{"):
            try:
                keys[found[1]] = json.loads(found[2])
            except (ValueError, RecursionError):
                return None
        elif _NOT_PLAIN.match(found[2]):
            return None
        else:
            keys[found[1]] = found[2]
    return keys


def _with_quotes(head: str) -> str:
    """Top-level values with a bare `: ` put in quotes: many skills are written so, though YAML forbids it."""
    lines = []
    for line in head.split("\n"):
        found = _LINE.fullmatch(line.rstrip())
        is_bare = found and ": " in found[2] and found[2][0] not in "\"'{[|>&*!"
        lines.append(f"{found[1]}: {json.dumps(found[2], ensure_ascii=False)}" if found and is_bare else line)
    return "\n".join(lines)
