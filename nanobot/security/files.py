"""The one way tools reach files: resolve a path, decide, and open exactly what was decided on.

A path is first resolved (links included) and judged. Then its folders are opened one by one from `/`
without following links, so that a link swapped in between the judgement and the opening is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from nanobot.errors import AccessDenied, ToolError

_PASS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_PROCESS_FILES = re.compile(r"/proc/(\d+|self|thread-self)(/|$)")


class Zone(Enum):
    """Whose ground a path is on; the deepest marked folder above it decides."""

    OUTSIDE = "outside"
    WORKSPACE = "workspace"
    READABLE = "readable"
    PROTECTED = "protected"
    PRIVATE = "private"


class PathPolicy:
    """What file tools may touch.

    Everything under a `private` folder (nanobot's own files) is refused, except the workspace when it
    lies inside, and the `readable` folders (received media, bundled skills), which are never written.
    The `protected` folders in the workspace hold what steers nanobot itself (skills, tool plugins): a
    tool may read and use it, only the owner changes it. With `restrict` nothing but the workspace and
    these folders can be reached, and no file with a second name (hard link). Methods raise AccessDenied
    when a path is refused and OSError as the system reports it.
    """

    def __init__(
        self,
        workspace: Path,
        *,
        restrict: bool,
        private: tuple[Path, ...] = (),
        readable: tuple[Path, ...] = (),
        protected: tuple[Path, ...] = (),
    ) -> None:
        self.workspace = workspace.expanduser().resolve()
        self.restrict = restrict
        self.private = tuple(path.expanduser().resolve() for path in private)
        # Later entries win a tie: a workspace that is nanobot's own folder stays closed.
        self._roots = (
            (self.workspace, Zone.WORKSPACE),
            *((path.expanduser().resolve(), Zone.READABLE) for path in readable),
            *((path.expanduser().resolve(), Zone.PROTECTED) for path in protected),
            *((path, Zone.PRIVATE) for path in self.private),
        )

    def resolve(self, path: str | Path, base: Path | None = None) -> Path:
        """`path` made absolute, links resolved, relative to `base` (the workspace). Not yet judged.

        Raises ToolError when it cannot be a path at all.
        """
        if not str(path).strip() or "\0" in str(path):
            raise ToolError("The path is empty or contains a NUL character. Give a file or folder name.")
        try:
            return ((base or self.workspace) / Path(path).expanduser()).resolve()
        except (RuntimeError, ValueError) as error:
            raise ToolError(f"The path {str(path)!r} cannot be resolved: {error}.") from error

    def zone(self, real: Path) -> Zone:
        """The zone of a resolved path."""
        depth, found = 0, Zone.OUTSIDE
        for root, zone in self._roots:
            if len(root.parts) >= depth and real.is_relative_to(root):
                depth, found = len(root.parts), zone
        return found

    def open_file(self, path: str | Path) -> BinaryIO:
        """Open a regular file for reading; never blocks on pipes or devices."""
        real = self._judged_file(path, write=False)
        with self._open_parents(real.parent, write=False) as folder:
            self._check_file(real, os.stat(real.name or ".", dir_fd=folder, follow_symlinks=False))
            descriptor = os.open(real.name, _READ, dir_fd=folder)
        file = os.fdopen(descriptor, "rb")
        try:
            self._check_file(real, os.fstat(descriptor))
        except BaseException:
            file.close()
            raise
        return file

    def replace_file(self, path: str | Path, data: bytes) -> bool:
        """Write `data` as the whole of `path`, at once or not at all; True if a file was replaced.

        Missing folders are created; mode and owner of an old file are kept. A link that was there stays
        a link: its target is replaced.
        """
        real = self._judged_file(path, write=True)
        with self._open_parents(real.parent, write=True) as folder:
            old = self._status(real, folder)
            temporary = f".nanobot-{os.urandom(6).hex()}.tmp"
            descriptor = os.open(temporary, _CREATE, 0o666, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    if old is not None:
                        _keep_owner_and_mode(descriptor, old)
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
                os.replace(temporary, real.name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(temporary, dir_fd=folder)
                raise
        return old is not None

    @contextlib.contextmanager
    def open_folder(self, path: str | Path) -> Iterator[int]:
        """A descriptor of a folder, fit for `os.scandir`."""
        real = self._judged(path, write=False)
        with self._open_parents(real, write=False) as folder:
            descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def working_dir(self, path: str | Path) -> Path:
        """The folder a command may run in. With `restrict` it lies in the workspace."""
        real = self.resolve(path)
        zone = self.zone(real)
        self._permit(zone, str(path), write=self.restrict and zone is not Zone.PROTECTED)
        with self._open_parents(real, write=False):
            return real

    def _judged(self, path: str | Path, *, write: bool) -> Path:
        real = self.resolve(path)
        named = Path(os.path.normpath(self.workspace / Path(path).expanduser()))
        if self.zone(named) is Zone.PROTECTED:  # a link in a protected folder does not open what it leads to
            self._permit(Zone.PROTECTED, str(path), write=write)
        self._permit(self.zone(real), str(path), write=write)
        if _PROCESS_FILES.match(str(real)):
            raise AccessDenied(f"{path} shows the inside of a process and is closed to tools.")
        return real

    def _judged_file(self, path: str | Path, *, write: bool) -> Path:
        real = self._judged(path, write=write)
        if any(real == root for root, _ in self._roots):  # what holds it may be closed, itself it is open
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(real))
        return real

    def _permit(self, zone: Zone, path: str, *, write: bool) -> None:
        if zone is Zone.PRIVATE:
            raise AccessDenied(
                f"{path} belongs to nanobot itself (settings, keys, logs) and is closed to tools."
            )
        if zone is Zone.READABLE and write:
            raise AccessDenied(f"{path} can be read, not written. Copy it first.")
        if zone is Zone.PROTECTED and write:
            raise AccessDenied(
                f"{path} cannot be written: only the owner changes skills and tool plugins. "
                "Write a draft below drafts/ and ask the owner to look at it and install it."
            )
        if zone is Zone.OUTSIDE and self.restrict:
            raise AccessDenied(
                f"{path} is outside the workspace {self.workspace}; tools are restricted to it."
            )

    @contextlib.contextmanager
    def _open_parents(self, real: Path, *, write: bool) -> Iterator[int]:
        """Open the folder `real` step by step from `/`; with `write`, create what is missing.

        Folders are also recognised by their inode, which sees through file systems that ignore case.
        """
        marks = self._marks()
        zone = Zone.OUTSIDE
        current = os.open("/", _PASS)
        try:
            for name in real.parts[1:]:
                below = self._enter(name, current, create=write and zone is not Zone.PRIVATE)
                os.close(current)
                current = below
                zone = marks.get(_identity(os.fstat(current)), zone)
            self._permit(zone, str(real), write=write)
            yield current
        finally:
            os.close(current)

    def _enter(self, name: str, folder: int, *, create: bool) -> int:
        try:
            return os.open(name, _PASS, dir_fd=folder)
        except FileNotFoundError:
            if not create:
                raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(name, folder):
                raise AccessDenied(f"{name} became a link while it was opened; refused.") from error
            raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=folder)
        return os.open(name, _PASS, dir_fd=folder)

    def _marks(self) -> dict[tuple[int, int], Zone]:
        marks = {}
        for root, zone in self._roots:
            with contextlib.suppress(OSError):
                marks[_identity(root.lstat())] = zone
        return marks

    def _status(self, real: Path, folder: int) -> os.stat_result | None:
        """Status of the file to be replaced, checked; None when there is none yet."""
        try:
            status = os.stat(real.name or ".", dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        self._check_file(real, status)
        return status

    def _check_file(self, real: Path, status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(real))
        if stat.S_ISLNK(status.st_mode):
            raise AccessDenied(f"{real} became a link while it was opened; refused.")
        if not stat.S_ISREG(status.st_mode):
            raise ToolError(f"{real} is a device, pipe or socket, not a file; it is not opened.")
        # Readable folders hold no links of a tool's making, but installers link what they install.
        if status.st_nlink > 1 and self.restrict and self.zone(real) is not Zone.READABLE:
            raise AccessDenied(
                f"{real} has a second name (hard link) that may be outside the workspace. Make a copy of it."
            )
        if status.st_nlink > 1 and self._names_private_file(_identity(status)):
            raise AccessDenied(f"{real} is another name of a file of nanobot itself and is closed to tools.")

    def _names_private_file(self, identity: tuple[int, int]) -> bool:
        for root in self.private:
            for folder, subfolders, names in os.walk(root):
                here = Path(folder)
                subfolders[:] = [name for name in subfolders if self.zone(here / name) is Zone.PRIVATE]
                for name in names:
                    with contextlib.suppress(OSError):
                        if _identity((here / name).lstat()) == identity:
                            return True
        return False


def read_inside(root: Path, path: Path) -> bytes:
    """What a file below `root` holds. Raises AccessDenied when a link leads out of it, and OSError."""
    with PathPolicy(root, restrict=True).open_file(path) as file:
        return file.read()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_link(name: str, folder: int) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    return False


def _keep_owner_and_mode(descriptor: int, old: os.stat_result) -> None:
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
