"""The owner's workspace: the files nanobot works with and reads its instructions from."""

from __future__ import annotations

from pathlib import Path

from nanobot.errors import StorageError
from nanobot.paths import make_private_dir, write_atomic


def create_workspace(workspace: Path) -> list[Path]:
    """Put the starter files into `workspace` where they are missing; returns what was created.

    Never overwrites anything. Raises StorageError.
    """
    make_private_dir(workspace)
    created: list[Path] = []
    try:
        _copy_missing(Path(__file__).parent / "templates", workspace, created)
        for folder in ("skills", "tools"):
            (workspace / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"Cannot write to the workspace {workspace}: {error.strerror}.") from error
    return created


def _copy_missing(source: Path, target: Path, created: list[Path]) -> None:
    for item in source.iterdir():
        path = target / item.name
        if item.is_dir():
            path.mkdir(exist_ok=True)
            _copy_missing(item, path, created)
        elif not path.exists():
            write_atomic(path, item.read_bytes(), mode=0o644)  # half a file would stay: it is there
            created.append(path)
