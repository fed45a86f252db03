"""What one hello passes: the files that `nanobot agent -m hello` with one tool call loads.

A file counts with all its lines when it is loaded and holds more than its docstring. That is the reading
that "how does it answer?" asks for, and it cannot be made smaller by moving code to another folder.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRACE = ("-X", "importtime")  # lists every import on stderr
SCRIPT = {"replies": [{"tool_calls": [{"name": "list_dir", "arguments": {"path": "."}}]}, {"text": "Hello."}]}
WIRE = "nanobot.providers.chat_completions"


@dataclass(frozen=True)
class Hello:
    """What a turn with the scripted model loads, and the lines that the wire of a real one adds to it."""

    files: int
    lines: int
    wire_lines: int


def measure_hello(root: Path) -> Hello | None:
    """Runs one in a home of its own; None without an environment for it. Raises RuntimeError."""
    python = root / ".venv" / "bin" / "python"
    if not python.exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        script = home / "hello.json"
        script.write_text(json.dumps(SCRIPT), encoding="utf-8")
        config = {"agents": {"defaults": {"model": f"scripted/{script}"}}}
        (home / "config.json").write_text(json.dumps(config), encoding="utf-8")
        hello = _loaded(root, home, [python, *TRACE, "-m", "nanobot", "agent", "-m", "hello"], "Hello.")
        wire = _loaded(root, home, [python, *TRACE, "-c", f"import {WIRE}"], "") - hello
    return Hello(len(hello), sum(map(_lines, hello)), sum(map(_lines, wire)))


def _loaded(root: Path, home: Path, command: Sequence[str | Path], says: str) -> set[Path]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("NANOBOT_")}
    done = subprocess.run(
        command,
        cwd=root,  # the package of this checkout comes first, wherever another one is installed
        env=plain | {"NANOBOT_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout.strip() != says:
        raise RuntimeError(f"exit code {done.returncode}: {done.stdout}{done.stderr[-2000:]}")
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines} | {"nanobot.__main__"}
    own = {_path(root, name) for name in names if name.split(".")[0] == "nanobot"}
    return {path for path in own if _holds_code(path)}


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def _path(root: Path, module: str) -> Path:
    path = root / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _holds_code(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
