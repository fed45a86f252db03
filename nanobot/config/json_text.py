"""JSON text that is read without loss, and in which single values are set: all else stays byte for byte."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from nanobot.errors import ConfigError

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]|[^\s",:{}\[\]]+')


class Step(NamedTuple):
    """A key on the way to a value, and the spellings in camelCase that mean it (none: as it stands)."""

    name: str
    spellings: tuple[str, ...] = ()

    def means(self, key: str) -> bool:
        return key == self.name or to_camel(key) in self.spellings


def to_camel(name: str) -> str:
    if "_" not in name and name[:1].islower():
        return name
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def loads(text: str, source: str) -> Any:
    """As json.loads. Raises ConfigError when a key is given twice: one of the two would be lost."""
    value = json.loads(text)
    _outline(text, source)
    return value


def set_value(text: str, path: Sequence[Step], value: object) -> str:
    """The JSON object `text` with `value` at `path`, laid out as what is around it.

    Raises ConfigError when a step leads into something that is no object.
    """
    node = _outline(text, "")
    own = "\r\n" if "\r\n" in text else "\n"
    first = next((_space(text, inner.key) for inner in node.members.values()), f"{own}  ")
    for depth, step in enumerate(path):
        if text[node.start] != "{":
            name = path[depth - 1].name
            raise ConfigError(f"config.json: {name!r} should be an object. Correct it; nothing was changed.")
        found = next((inner for key, inner in node.members.items() if step.means(key)), None)
        if found is None:
            break
        node, own = found, _space(text, found.key)
    else:
        return f"{text[: node.start]}{_written(value, own, first)}{text[node.end :]}"
    for later in reversed(path[depth + 1 :]):
        value = {later.name: value}
    if not node.members:
        return f"{text[: node.start]}{_written({step.name: value}, own, first)}{text[node.end :]}"
    last = list(node.members.values())[-1]
    own, space = _space(text, last.key), _space(text, last.start)
    key = f",{own or space}{json.dumps(step.name, ensure_ascii=False)}:{space}"
    return f"{text[: last.end]}{key}{_written(value, own, first)}{text[last.end :]}"


def remove_key(text: str, *path: str) -> str:
    """The JSON object `text` without what is at `path`, where there is something."""
    node = _outline(text, "")
    for name in path[:-1]:
        node = node.members[name]
    members = list(node.members.values())
    at = list(node.members).index(path[-1])
    start = members[at - 1].end if at else members[0].key
    end = members[1].key if at == 0 and len(members) > 1 else members[at].end
    return text[:start] + text[end:]


class _Node:
    """Where a value stands in its text; of an object or a list also where its members do."""

    def __init__(self, key: int, start: int, end: int) -> None:
        self.key, self.start, self.end = key, start, end
        self.members: dict[str, _Node] = {}


def _outline(text: str, source: str) -> _Node:
    """Where everything stands in a text that json.loads takes. Raises ConfigError for a key given twice."""
    nodes, names = [top := _Node(0, 0, 0)], [""]
    key: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        parent = nodes[-1]
        if token[0] in "]}":
            nodes.pop().end = token.end()
            names.pop()
        elif key is None and parent is not top and text[parent.start] == "{":
            key = token
        else:
            name = json.loads(key[0]) if key else str(len(parent.members))
            node = _Node((key or token).start(), token.start(), token.end())
            if name in parent.members:
                places = f"{_place(text, parent.members[name].key)} and {_place(text, node.key)}"
                raise ConfigError(
                    f"{source}: {'.'.join([*names[2:], name])} is given twice, at {places}. "
                    "Make one of the two, with what both say. Nothing was changed."
                )
            parent.members[name], key = node, None
            if token[0] in "[{":
                nodes.append(node)
                names.append(name)
    return top.members["0"]


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    return f"line {line}, column {position - text.rfind(chr(10), 0, position)}"


def _space(text: str, position: int) -> str:
    """The white space before `position`."""
    return text[len(text[:position].rstrip(" \t\r\n")) : position]


def _written(value: object, own: str, first: str) -> str:
    """`value` as JSON: over several lines if it begins one, which is when the space before it, `own`, has a
    line end. The `first` space in the whole text shows how far lines are indented.
    """
    if "\n" not in own:
        return json.dumps(value, ensure_ascii=False)
    head, _, indentation = own.rpartition("\n")
    line = ("\r\n" if head.endswith("\r") else "\n") + indentation
    unit = first.rpartition("\n")[2]
    return json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", line)
