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
from pathlib import Path

SCRIPT = {"replies": [{"tool_calls": [{"name": "list_dir", "arguments": {"path": "."}}]}, {"text": "Hello."}]}


def environment_of(root: Path) -> Path | None:
    """The Python that `make dev` has set up for this checkout, if it has."""
    python = root / ".venv" / "bin" / "python"
    return python if python.exists() else None


def loaded_files(root: Path, python: Path) -> list[Path]:
    """Runs one turn in a home of its own with the scripted provider. Raises RuntimeError when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        script = home / "hello.json"
        script.write_text(json.dumps(SCRIPT), encoding="utf-8")
        config = {"agents": {"defaults": {"model": f"scripted/{script}"}}}
        (home / "config.json").write_text(json.dumps(config), encoding="utf-8")
        plain = {name: value for name, value in os.environ.items() if not name.startswith("NANOBOT_")}
        done = subprocess.run(
            [python, "-X", "importtime", "-m", "nanobot", "agent", "-m", "hello"],
            cwd=root,  # `-m` takes the package of this checkout, wherever another one is installed
            env=plain | {"NANOBOT_HOME": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.stdout.strip() != "Hello.":
        raise RuntimeError(
            f"A hello failed with exit code {done.returncode}: {done.stdout}{done.stderr[-2000:]}"
        )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines} | {"nanobot.__main__"}
    own = {name for name in names if name.split(".")[0] == "nanobot"}
    return sorted(path for path in (_path(root, name) for name in own) if _holds_code(path))


def _path(root: Path, module: str) -> Path:
    path = root / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _holds_code(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)
