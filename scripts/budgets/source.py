"""The files of the package as text and as syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Measure:
    """One thing a rule looks at: how much of it there is, and where in nanobot/."""

    rule: str
    subject: str
    amount: int
    where: str


@dataclass(frozen=True)
class SourceFile:
    """A Python file of the package. `name` is its path below nanobot/, with slashes."""

    name: str
    text: str

    @property
    def lines(self) -> int:
        """As `wc -l` counts them, blank ones and comments included."""
        return self.text.count("\n")

    @property
    def room(self) -> str:
        """Its top folder; a file beside the folders is a room of its own, named without `.py`."""
        return self.name.split("/")[0].removesuffix(".py")

    @property
    def module(self) -> str:
        """As imports spell it: `nanobot.agent.loop`, and `nanobot.agent` for its `__init__.py`."""
        path = f"nanobot/{self.name}".removesuffix(".py").removesuffix("/__init__")
        return path.replace("/", ".")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, f"nanobot/{self.name}")

    @property
    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    @property
    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, FUNCTIONS))


def read_sources(root: Path) -> list[SourceFile]:
    """Every Python file of the checkout at `root`. Raises SyntaxError for one that is none."""
    package = root / "nanobot"
    paths = sorted(package.rglob("*.py"))
    sources = [SourceFile(path.relative_to(package).as_posix(), path.read_text("utf-8")) for path in paths]
    for source in sources:
        source.tree  # noqa: B018
    return sources


def length(node: ast.stmt) -> int:
    """Lines of a definition, without its decorators."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def at(source: SourceFile, node: ast.stmt) -> str:
    return f"nanobot/{source.name}:{node.lineno}"


def last_name(node: ast.expr) -> str:
    """`Channel` of `Channel`, `base.Channel` and `Channel[Section]`; empty for anything else."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def base_names(node: ast.ClassDef) -> list[str]:
    return [last_name(base) for base in node.bases]


def descendants(sources: Iterable[SourceFile], ancestor: str) -> list[tuple[SourceFile, ast.ClassDef]]:
    """The classes that inherit from `ancestor`, directly or through others of the package."""
    classes = [(source, node) for source in sources for node in source.classes]
    family = {ancestor}
    while True:
        found = [(source, node) for source, node in classes if family.intersection(base_names(node))]
        grown = family | {node.name for _, node in found}
        if grown == family:
            return found
        family = grown
