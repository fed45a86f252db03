"""Check the sizes promised in the design (P1) and the rules no linter knows. Exit 1 names each fault.

Lines are counted as `wc -l` counts them, blank ones and comments included. Standard library only, so that
`./core_agent_lines.sh` works in a bare checkout. An argument names another checkout to look at.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOM_LIMITS = {
    "core": 4080,
    "security": 1000,
    "providers": 2000,
    "cli": 2000,
    "tools": 2000,
    "gateway": 400,
    "storage": 2600,
    "terminal": 1200,
    "commands": 600,
    "plugins": 550,
    "mcp": 1850,
    "skills": 1000,
    "subagents": 700,
    "memory": 3200,
    "legacy": 300,
}
CORE_ROOMS = ("agent", "bus", "config", "cron", "heartbeat", "session")
FILE_LIMIT = 400
FUNCTION_LIMIT = 60

# The edges of design part 2, where any exception may be caught because it is logged and the rest goes on:
# a tool call, a channel task, a scheduled job, a plugin import, an HTTP handler. (file, function): edge.
BROAD_EXCEPT_EDGES: dict[tuple[str, str], str] = {
    ("nanobot/agent/tool_calls.py", "_execute_safely"): "a tool call",
    ("nanobot/channels/manager.py", "_supervise"): "a channel task",
    ("nanobot/channels/manager.py", "contained"): "a channel task",
    ("nanobot/channels/registry.py", "load_channel"): "a plugin import",
    ("nanobot/plugins/files.py", "load_tools"): "a plugin import",
    ("nanobot/plugins/threads.py", "job"): "a tool call",
    ("nanobot/gateway/http.py", "_exchange"): "an HTTP handler",
    ("nanobot/mcp/connection.py", "_connect_once"): "a channel task",  # the task of an MCP server
    ("nanobot/memory/consolidation.py", "serve"): "a scheduled job",
}
BROAD_NAMES = {"Exception", "BaseException"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|NotImplementedError)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class SourceFile:
    """A Python file of the package. `name` is its path from the checkout's root, with slashes."""

    name: str
    text: str

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def room(self) -> str:
        """The row of the table the file belongs to: its folder, `core` for those that make up the core."""
        parts = self.name.split("/")
        if len(parts) == 2 or parts[1] in CORE_ROOMS:
            return "core"
        return parts[1]


def read_sources(root: Path) -> list[SourceFile]:
    paths = sorted((root / "nanobot").rglob("*.py"))
    return [SourceFile(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def table(sources: Iterable[SourceFile]) -> list[tuple[str, int, int | None]]:
    """(name, lines, limit) for every room, the parts of the core indented under it, and the total."""
    rooms: dict[str, int] = dict.fromkeys(ROOM_LIMITS, 0)
    core: dict[str, int] = {}
    for source in sources:
        rooms[source.room] = rooms.get(source.room, 0) + source.lines
        if source.room == "core":
            parts = source.name.split("/")
            part = f"{parts[1]}/" if len(parts) > 2 else "root files"
            core[part] = core.get(part, 0) + source.lines
    rows: list[tuple[str, int, int | None]] = []
    for room, lines in rooms.items():
        rows.append((room if room == "core" else f"{room}/", lines, ROOM_LIMITS.get(room)))
        if room == "core":
            rows.extend((f"  {part}", count, None) for part, count in sorted(core.items()))
    return [*rows, ("total", sum(rooms.values()), None)]


def room_faults(sources: Iterable[SourceFile]) -> Iterator[str]:
    for name, lines, limit in table(sources):
        if limit is not None and lines > limit:
            yield f"{name}: {lines} lines, {lines - limit} more than its budget of {limit}"


def file_faults(source: SourceFile) -> Iterator[str]:
    if source.lines > FILE_LIMIT:
        yield f"{source.name}: {source.lines} lines, a file has at most {FILE_LIMIT}"
    for number, line in enumerate(source.text.splitlines(), start=1):
        if found := UNFINISHED.search(line):
            yield f"{source.name}:{number}: {found[0]} left behind"
    tree = ast.parse(source.text, source.name)
    for function in functions(tree):
        first, length = function.lineno, (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LIMIT:
            yield f"{source.name}:{first}: {function.name} is {length} lines, at most {FUNCTION_LIMIT}"
    for line_number, where in broad_handlers(tree, "the module"):
        if (source.name, where) not in BROAD_EXCEPT_EDGES:
            yield f"{source.name}:{line_number}: {where} catches every exception and is not one of the edges"


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def broad_handlers(node: ast.AST, function: str) -> Iterator[tuple[int, str]]:
    """(line, innermost function) of every handler that catches everything and does not raise it again."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ExceptHandler) and is_broad(child) and not raises_again(child):
            yield child.lineno, function
        inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from broad_handlers(child, inner)


def is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(item, ast.Name) and item.id in BROAD_NAMES for item in caught)


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def edge_faults(sources: Iterable[SourceFile]) -> Iterator[str]:
    """Edges named above that no longer catch anything: the list must not outlive the code."""
    found = {
        (source.name, function)
        for source in sources
        for _, function in broad_handlers(ast.parse(source.text, source.name), "the module")
    }
    for name, function in sorted(BROAD_EXCEPT_EDGES.keys() - found):
        yield f"scripts/check_budgets.py lists an edge that is gone: {name}, {function}"


def main(arguments: list[str]) -> int:
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    sources = read_sources(root)
    for name, lines, limit in table(sources):
        print(f"{name:<16}{lines:>7}" + (f"  of {limit:>5}" if limit is not None else ""))
    try:
        faults = [*room_faults(sources), *edge_faults(sources)]
        for source in sources:
            faults.extend(file_faults(source))
    except SyntaxError as error:
        faults = [f"{error.filename}:{error.lineno}: {error.msg}"]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
