"""How much a reader has to hold in mind: interfaces, constructors, names, imports, circles."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from budgets import limits
from budgets.source import FUNCTIONS, Function, Measure, SourceFile, at, base_names, last_name

NO_NAMES = ("getLogger", "TypeVar", "ParamSpec", "Typer")


def measure_widths(sources: Sequence[SourceFile]) -> Iterator[Measure]:
    callables = _names_of_callables(sources)
    for source in sources:
        for node in source.classes:
            public = {method.name for method in _methods(node) if not method.name.startswith("_")}
            yield Measure("methods", node.name, len(public), at(source, node))
            yield Measure("callables", node.name, _constructor_callables(node, callables), at(source, node))
    yield from _protocols(sources)
    yield from _names(sources)
    yield from _imports(sources)


def _methods(node: ast.ClassDef) -> list[Function]:
    return [child for child in node.body if isinstance(child, FUNCTIONS)]


def _is_protocol(node: ast.ClassDef) -> bool:
    """Of typing; asyncio's of the same name is a class."""
    return "Protocol" in base_names(node) and "asyncio.Protocol" not in map(ast.unparse, node.bases)


# ---- Protocols ----


def _protocols(sources: Sequence[SourceFile]) -> Iterator[Measure]:
    """A Protocol needs two classes with all its members. One that is only called is a function's type."""
    classes = [node for source in sources for node in source.classes]
    by_name = {node.name: node for node in classes}
    members = {id(node): _members(node, by_name) for node in classes}
    for source in sources:
        if source.name in limits.PLUGIN_API:
            continue
        for node in source.classes:
            wanted = members[id(node)]
            if not _is_protocol(node) or "__call__" in wanted:
                continue
            fulfil = [one for one in classes if not _is_protocol(one) and _fulfils(members[id(one)], wanted)]
            yield Measure("protocol", node.name, int(len(fulfil) < 2), at(source, node))


def _fulfils(members: dict[str, list[str] | None], wanted: dict[str, list[str] | None]) -> bool:
    """Every member is there, and a method takes parameters of the same names (more may follow)."""
    for name, parameters in wanted.items():
        if name not in members:
            return False
        own = members[name]
        if parameters is not None and own is not None and own[: len(parameters)] != parameters:
            return False
    return True


def _members(node: ast.ClassDef, by_name: dict[str, ast.ClassDef]) -> dict[str, list[str] | None]:
    """Public members, inherited ones included: parameters of a method in order, None for anything else."""
    found: dict[str, list[str] | None] = {}
    for base in base_names(node):
        if base in by_name and by_name[base] is not node:
            found |= _members(by_name[base], by_name)
    for child in node.body:
        if isinstance(child, FUNCTIONS):
            arguments = child.args
            names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args][1:]]
            found[child.name] = None if _is_property(child) else names
            if child.name == "__init__":
                found |= dict.fromkeys(_attributes_set(child))
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            found[child.target.id] = None
        elif isinstance(child, ast.Assign):
            found |= {target.id: None for target in child.targets if isinstance(target, ast.Name)}
    return {name: value for name, value in found.items() if name == "__call__" or not name.startswith("_")}


def _is_property(node: Function) -> bool:
    return any(last_name(decorator) in ("property", "cached_property") for decorator in node.decorator_list)


def _attributes_set(function: Function) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


# ---- callables ----


def _names_of_callables(sources: Iterable[SourceFile]) -> set[str]:
    """`Callable`, its aliases in the package, and Protocols that are called."""
    names = {"Callable"}
    for source in sources:
        for node in source.tree.body:
            if isinstance(node, ast.Assign) and last_name(node.value) == "Callable":
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        for cls in source.classes:
            if _is_protocol(cls) and any(method.name == "__call__" for method in _methods(cls)):
                names.add(cls.name)
    return names


def _constructor_callables(node: ast.ClassDef, callables: set[str]) -> int:
    """Parameters of `__init__`, or fields of a dataclass, whose type is a function."""
    kinds: list[ast.expr | None] = []
    if any(last_name(_called(decorator)) == "dataclass" for decorator in node.decorator_list):
        kinds += [child.annotation for child in node.body if isinstance(child, ast.AnnAssign)]
    for method in _methods(node):
        if method.name == "__init__":
            arguments = method.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            kinds += [argument.annotation for argument in every]
    return sum(1 for kind in kinds if kind is not None and _is_callable(kind, callables))


def _called(node: ast.expr) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _is_callable(kind: ast.expr, callables: set[str]) -> bool:
    if isinstance(kind, ast.BinOp):  # `Callable[[], None] | None`
        return _is_callable(kind.left, callables) or _is_callable(kind.right, callables)
    return last_name(kind) in callables


# ---- names ----


def _names(sources: Iterable[SourceFile]) -> Iterator[Measure]:
    """Public functions, classes and constants at the top of a module, by the rooms that define them.

    Loggers, type variables and the functions of shell commands are no names that a reader looks up.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for source in sources:
        for node in source.tree.body:
            for name in _defined(node):
                if not name.startswith("_"):
                    found[name][source.room] = at(source, node)
    for name, rooms in found.items():
        yield Measure("name", name, len(rooms), ", ".join(rooms.values()))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return [node.name]
    if isinstance(node, FUNCTIONS):
        is_command = any(last_name(_called(decorator)) == "command" for decorator in node.decorator_list)
        return [] if is_command else [node.name]
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return []
    if isinstance(node.value, ast.Call) and last_name(node.value.func) in NO_NAMES:
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


# ---- imports ----


def _imports(sources: Sequence[SourceFile]) -> Iterator[Measure]:
    """Rooms that a module imports, anywhere in it; and the circle it stands in (1: none)."""
    modules = {source.module: source for source in sources}
    graph = {source.module: _imported(source, modules) for source in sources}
    for source in sources:
        rooms = {modules[name].room for name in graph[source.module]}
        others = rooms.difference(limits.GROUND_FLOOR, [source.room, "nanobot"])
        yield Measure("imports", source.name, len(others), f"nanobot/{source.name}")
        circle = {name for name in _reached(graph, source.module) if source.module in _reached(graph, name)}
        yield Measure("circle", source.name, max(1, len(circle)), f"nanobot/{source.name}")


def _imported(source: SourceFile, modules: dict[str, SourceFile]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else node.module for name in whole}
    return {name for name in found if name in modules and name != "nanobot"} - {source.module}


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph[name])
    return seen
