"""Where nanobot keeps things, and how it writes them: `~/.nanobot`, or `$NANOBOT_HOME`."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from nanobot.errors import HomeUnusable, StorageError

_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]')


def home() -> Path:
    """The folder of everything nanobot owns. Not created by this call."""
    configured = os.environ.get("NANOBOT_HOME", "")
    return Path(configured).expanduser().absolute() if configured else Path.home() / ".nanobot"


def program() -> str:
    """What a person types for `nanobot` here: its name if it is on PATH, else where it lies."""
    from shutil import which

    beside = Path(sys.executable).parent / "nanobot"
    if which("nanobot") or not beside.exists():
        return "nanobot"
    below = beside.is_relative_to(Path.cwd())
    return str(beside.relative_to(Path.cwd()) if below else beside)


def config_file() -> Path:
    return home() / "config.json"


def database_file() -> Path:
    return home() / "nanobot.db"


def port_file() -> Path:
    """Where the leading gateway notes the port it listens at."""
    return home() / "run" / "port"


def outgoing_dir() -> Path:
    """Files that wait to be delivered, as they were when they were queued."""
    return home() / "outgoing"


def make_private_dir(path: Path) -> Path:
    """Create `path` (0700) with its parents. Raises StorageError naming the folder."""
    try:
        for missing in [folder for folder in reversed(path.parents) if not folder.exists()]:
            missing.mkdir(exist_ok=True, mode=0o700)
        path.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        kind = StorageError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else HomeUnusable
        raise kind(
            f"Cannot create {path}: {error.strerror}. "
            "Make it writable, or set NANOBOT_HOME to another folder."
        ) from error
    return path


def write_atomic(path: Path, data: str | bytes, *, mode: int = 0o600) -> None:
    """Replace `path` as a whole or not at all; see `atomic_file`."""
    with atomic_file(path, mode=mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when the block ends well, surviving a crash at any point.

    Raises StorageError. A symlink at `path` is followed, so a linked config file stays linked.
    """
    target, temporary = path.resolve(), ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
        Path(temporary).replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError(f"Cannot write {path}: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):  # it has taken its place, or was never made
            Path(temporary).unlink()


def safe_name(name: str, *, limit: int = 120) -> str:
    """`name` as one harmless file name: no separators, NUL or control characters."""
    return _UNSAFE.sub("_", name).strip(" .")[:limit].strip(" .") or "_"
