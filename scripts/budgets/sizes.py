"""Lines: of the spine, of each room, of files and functions, and of one more of a kind (its price)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from budgets import limits
from budgets.source import Measure, SourceFile, at, base_names, descendants, last_name, length


def in_spine(source: SourceFile) -> bool:
    return source.name.split("/")[0] in limits.SPINE_PARTS


def lines_of_spine(sources: Iterable[SourceFile]) -> int:
    return sum(source.lines for source in sources if in_spine(source))


def lines_of_rooms(sources: Iterable[SourceFile]) -> dict[str, int]:
    rooms = dict.fromkeys(limits.ROOMS, 0)
    for source in sources:
        room = source.room if "/" in source.name else "root files"
        rooms[room] = rooms.get(room, 0) + source.lines
    return {room: lines for room, lines in rooms.items() if lines}


def measure_sizes(sources: Sequence[SourceFile]) -> Iterator[Measure]:
    for source in sources:
        yield Measure("file", source.name, source.lines, f"nanobot/{source.name}")
        for node in source.functions:
            yield Measure("function", node.name, length(node), at(source, node))
    yield from _channels(sources)
    yield from _parts_by_file(sources)
    for source, tool in descendants(sources, "Tool"):
        yield Measure("tool", tool.name, length(tool), at(source, tool))
    for source in sources:
        if source.room == "commands":
            yield from _slash_commands(source)


def _channels(sources: Sequence[SourceFile]) -> Iterator[Measure]:
    """A channel is the file of its class, those named after it (`telegram_*.py`), and its config section.

    The rest of the room is what they share.
    """
    shared = {source.name: source.lines for source in sources if source.room == "channels"}
    for source, _ in descendants(sources, "Channel"):
        if source.name == limits.CHANNEL_BASE:
            continue
        stem = source.name.removesuffix(".py")
        own = [one for one in sources if one is source or one.name.startswith(f"{stem}_")]
        shared = {name: lines for name, lines in shared.items() if name not in {one.name for one in own}}
        name = stem.rpartition("/")[2]
        sections = (
            length(section)
            for one in sources
            if one.room == "config"
            for section in one.classes
            if section.name.lower() == f"{name}config"
        )
        yield Measure(
            "channel", name, sum(one.lines for one in own) + sum(sections), f"nanobot/{source.name}"
        )
    yield Measure("channel base", "channels", sum(shared.values()), "nanobot/channels")


def _parts_by_file(sources: Sequence[SourceFile]) -> Iterator[Measure]:
    for source in sources:
        if source.room == "providers" and any("WireProvider" in base_names(node) for node in source.classes):
            yield Measure("wire protocol", source.name, source.lines, f"nanobot/{source.name}")
        if source.name in limits.OAUTH_LOGINS:
            yield Measure("OAuth login", source.name, source.lines, f"nanobot/{source.name}")
        if source.name in limits.DATABASE_ADAPTERS:
            yield Measure("database adapter", source.name, source.lines, f"nanobot/{source.name}")


def _slash_commands(source: SourceFile) -> Iterator[Measure]:
    """A slash command is a handler: a function of the table's room that takes a `Request`."""
    for node in source.functions:
        takes = [argument.annotation for argument in node.args.args]
        if any(isinstance(kind, ast.expr) and last_name(kind) == "Request" for kind in takes):
            yield Measure("slash command", node.name, length(node), at(source, node))
