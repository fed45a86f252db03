"""MEMORY.md and HISTORY.md on disk: changes that survive a kill, backups, and the locks around them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nanobot import paths
from nanobot.errors import StorageError
from nanobot.memory.facts import (
    Fact,
    HistoryEntry,
    decode_memory,
    encode_memory,
    format_fact,
    parse_facts,
    parse_history,
    read_memory,
    unreadable,
)
from nanobot.memory.operations import Edit, Plan

T = TypeVar("T")

_KEPT_BACKUPS = 20
_RETRY = 0.05  # seconds between two tries of a lock


@contextlib.asynccontextmanager
async def hold(name: str) -> AsyncIterator[None]:
    """Hold a lock that one task of all processes on this home has at a time; a killed one loses it."""
    folder = paths.make_private_dir(paths.home() / "run")
    with _storage_errors(folder):
        descriptor = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_RETRY)
        yield
    finally:
        os.close(descriptor)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` also when this task is cancelled meanwhile: no thread goes on without its lock."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class MemoryFiles:
    """The memory files in `folder`. Methods block; those that write raise StorageError. Files are read anew
    before every change, and bytes that are no UTF-8 kept. `waiting` has unconfirmed facts, like `memory`."""

    def __init__(self, folder: Path, backups: Path) -> None:
        self.folder, self.backups = folder, backups
        self.memory, self.history = folder / "MEMORY.md", folder / "HISTORY.md"
        self.waiting = folder / "UNCONFIRMED.md"

    def facts(self) -> list[Fact]:
        """The facts as they are now."""
        return parse_facts(decode_memory(read_memory(self.memory)))

    def entries(self) -> list[HistoryEntry]:
        """What HISTORY.md says now."""
        return parse_history(decode_memory(read_memory(self.history)))

    def unconfirmed(self) -> list[Fact]:
        """What others wrote that would be facts if the owner said so, and has not."""
        known = {fact.id for fact in self.facts()}
        waiting = parse_facts(decode_memory(read_memory(self.waiting)))
        return list({fact.id: fact for fact in waiting if fact.id not in known}.values())

    def confirm(self, fact: Fact) -> None:
        """Make an unconfirmed fact one of the owner's. For the holder of the lock `memory`."""
        edit = Edit("", format_fact(fact), fact.origin.group)
        rewrite(self.memory, lambda text: edit_lines(text, (edit,)))

    def complaints(self) -> list[str]:
        """What the owner should look at, a sentence each: what cannot be read, what is unconfirmed."""
        found = []
        for path in (self.memory, self.history):
            try:
                problems = unreadable(decode_memory(read_memory(path)))
                found += [f"{path.name}, line {line}: {problem}." for line, problem in problems]
            except StorageError as error:
                found.append(str(error))
        with contextlib.suppress(StorageError):
            if waiting := len(self.unconfirmed()):
                found.append(f"UNCONFIRMED.md has {waiting} facts: `nanobot memory confirm` shows them.")
        return found

    def apply(self, plan: Plan, change_id: int) -> None:
        """Bring a change into the files; doing so again changes nothing."""
        paths.make_private_dir(self.folder)
        for path in (self.history, self.memory, self.waiting):  # not through a link that leads elsewhere
            read_memory(path)
        rewrite(self.history, lambda text: _with_lines(text, plan.history))
        rewrite(self.waiting, lambda text: _with_lines(text, plan.unconfirmed))

        def edit(text: str) -> str:
            after = edit_lines(text, plan.edits)
            if after != text:
                self._back_up(_read(self.memory), change_id)
            return after

        rewrite(self.memory, edit)

    def _back_up(self, content: bytes, change_id: int) -> None:
        paths.make_private_dir(self.backups)
        if not any(self.backups.glob(f"MEMORY-*-{change_id}.md")):
            stamp = time.strftime("%Y%m%dT%H%M%S")
            paths.write_atomic(self.backups / f"MEMORY-{stamp}-{change_id}.md", content)
        for old in sorted(self.backups.glob("MEMORY-*.md"))[:-_KEPT_BACKUPS]:
            old.unlink(missing_ok=True)


def open_files(workspace: Path) -> MemoryFiles:
    """The memory files of a workspace; backups are kept in nanobot's home."""
    return MemoryFiles(workspace / "memory", paths.home() / "backups" / "memory")


def edit_lines(text: str, edits: tuple[Edit, ...]) -> str:
    """MEMORY.md after the edits. An edit whose fact is gone is left out, as the owner took it away.
    The file is written as a whole, so if one of the new lines is there, all of this was done before."""
    lines: list[str | None] = [*text.split("\n")]  # None: it is gone
    if any(edit.new in lines for edit in edits if edit.new):
        return text
    places: dict[tuple[str, str], list[int]] = {}
    for fact in parse_facts(text):
        places.setdefault((fact.id, fact.origin.group), []).append(fact.line)
    added = []
    for edit in edits:
        if edit.old and not places.get((edit.old, edit.group)):
            continue
        old = places.pop((edit.old, edit.group), [])
        for number in old:
            lines[number] = None
        named = [(fact.id, fact.origin.group) for fact in parse_facts(edit.new)]
        if not named or named[0] in places:  # nothing new, or known
            continue
        places[named[0]] = []
        if old:
            lines[old[0]] = edit.new
        else:
            added.append(edit.new)
    return _joined("\n".join(line for line in lines if line is not None), added)


def _with_lines(text: str, lines: Sequence[str]) -> str:
    return text if _joined("\n", lines) in f"\n{text}" else _joined(text, lines)


def _joined(text: str, lines: Sequence[str]) -> str:
    separator = "\n" if lines and text and not text.endswith("\n") else ""
    return text + separator + "".join(f"{line}\n" for line in lines)


class _Changed(Exception):
    """Somebody has written the file meanwhile."""


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Bring `change` into a file as it is at that moment; for the holder of the lock `memory`.
    Survives a crash at any point. Raises StorageError."""
    while True:
        with _storage_errors(path):
            before = _read(path)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        after = encode_memory(change(decode_memory(before)), before)
        if after == before:
            return
        with contextlib.suppress(_Changed), paths.atomic_file(path, mode=mode) as file:
            file.write(after)
            file.flush()
            os.fsync(file.fileno())  # it takes time: before the last look at the file
            if _read(path) != before:
                raise _Changed
            return


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"Cannot read or write {path}: {error.strerror}.") from error
