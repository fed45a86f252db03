"""What is left behind in the text of a file, and handlers that catch everything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from budgets.limits import BROAD_EXCEPT_EDGES
from budgets.source import FUNCTIONS, SourceFile

BROAD_NAMES = {"Exception", "BaseException"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|NotImplementedError)\b")


def unfinished_faults(source: SourceFile) -> Iterator[str]:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if found := UNFINISHED.search(line):
            yield f"nanobot/{source.name}:{number}: {found[0]} left behind"


def handler_faults(sources: Iterable[SourceFile]) -> Iterator[str]:
    """Handlers that catch everything outside the edges, and edges that no longer catch anything."""
    gone = set(BROAD_EXCEPT_EDGES)
    for source in sources:
        for line, function in _broad_handlers(source.tree, "the module"):
            gone.discard((source.name, function))
            if (source.name, function) not in BROAD_EXCEPT_EDGES:
                where = f"nanobot/{source.name}:{line}"
                yield f"{where}: {function} catches every exception and is not one of the edges"
    for name, function in sorted(gone):
        yield f"scripts/budgets/limits.py lists an edge that is gone: {name}, {function}"


def _broad_handlers(node: ast.AST, function: str) -> Iterator[tuple[int, str]]:
    """(line, innermost function) of every handler that catches everything and does not raise it again."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ExceptHandler) and _is_broad(child) and not _raises_again(child):
            yield child.lineno, function
        inner = child.name if isinstance(child, FUNCTIONS) else function
        yield from _broad_handlers(child, inner)


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(item, ast.Name) and item.id in BROAD_NAMES for item in caught)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None
