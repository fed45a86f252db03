"""Processes that consolidate and are killed: forked from one that has everything imported."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
import sqlite3
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nanobot import paths
from nanobot.memory.forget import ForgetScope
from nanobot.providers.base import ModelRequest
from nanobot.store import sqlite
from tests.consolidation.world import Script, World, add, expire, reply, supersede

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.consolidation.forked"])


def model(request: ModelRequest) -> str:
    """Moves whoever says `I live in CITY now`, forgets the cat, adds `NAME is my friend`."""
    text = request.messages[0].text
    listed = re.findall(r"^([0-9a-f]{8}): (.*) \(.*\)$", text, re.MULTILINE)
    known = {fact: name for name, fact in listed}
    operations = []
    for seq, name in re.findall(r"^\[(\d+)\] user \(.*\): (\w+) is my friend", text, re.MULTILINE):
        operations.append(add(f"{name} is my friend.", int(seq)))
    for seq, city in re.findall(r"^\[(\d+)\] user \(.*\): I live in (\w+) now", text, re.MULTILINE):
        operations.append(supersede(known["Lives in Berlin."], f"Lives in {city}.", int(seq)))
    for seq in re.findall(r"^\[(\d+)\] user \(.*\): The cat ", text, re.MULTILINE):
        operations.append(expire(known["Has a cat."], int(seq)))
    said = re.findall(r"^\[\d+\] user \(.*?\): (.*)$", text, re.MULTILINE)
    return reply(f"They said: {' '.join(said)}"[:1_000], *operations)


def model_beside_an_owner(request: ModelRequest) -> str:
    """The same, while its owner edits MEMORY.md: first another line in its place, then as a new file."""
    memory = paths.home() / "workspace" / "memory" / "MEMORY.md"
    name = re.findall(r"user \(.*\): (\w+)", request.messages[0].text)[0]
    with memory.open("a") as file:
        file.write(f"- Wrote {name} by hand.\n")
    other = memory.with_suffix(".new")
    other.write_text(memory.read_text().replace("Old line", f"Line before {name}\nOld line"))
    other.rename(memory)
    return model(request)


class _Death:
    """Kills the process at its n-th event."""

    def __init__(self, kill_at: int) -> None:
        self._kill_at = kill_at
        self._events = 0

    def __call__(self) -> None:
        self._events += 1
        if self._events == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


class _Mortal(sqlite.Connection):
    """Meets death before and after every commit that changes something."""

    death: _Death

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement.startswith("BEGIN"):
            self._changes = self.total_changes
        if statement != "COMMIT" or self.total_changes == self._changes:
            return super().execute(statement, *parameters)
        self.death()
        done = super().execute(statement)
        self.death()
        return done


def _watch(home: Path, death: _Death) -> None:
    """Meet death before a file of `home` is opened for writing, renamed or removed, and around fsync."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ("os.rename", "os.remove")) and str(args[0]).startswith(str(home)):
            death()

    def fsync(descriptor: int, really: Any = os.fsync) -> None:
        death()
        really(descriptor)
        death()

    sys.addaudithook(hook)
    os.fsync = fsync
    _Mortal.death = death
    sqlite.Connection = _Mortal  # type: ignore[misc]


def _consolidate(home: Path, kill_at: int, script: Script) -> None:
    os.environ["NANOBOT_HOME"] = str(home)
    if kill_at:
        _watch(home, _Death(kill_at))

    async def run() -> None:
        world = World(script)
        await world.consolidator.run_owed()
        await world.store.aclose()

    asyncio.run(run())


def _forget(home: Path, kill_at: int, wanted: str) -> None:
    os.environ["NANOBOT_HOME"] = str(home)
    _watch(home, _Death(kill_at))

    async def run() -> None:
        world = World()
        forgetter = world.forgetter()
        await forgetter.forget(await forgetter.find(wanted, ForgetScope()))
        await world.store.aclose()

    asyncio.run(run())


def start_forgetting(home: Path, kill_at: int, wanted: str) -> BaseProcess:
    """A process that forgets something in `home`, and dies at its n-th write."""
    process = _FORKS.Process(target=_forget, args=(home, kill_at, wanted))
    process.start()
    return process


def start(home: Path, kill_at: int = 0, script: Script = model) -> BaseProcess:
    """A process that consolidates all that is owed in `home`, and dies at its n-th write."""
    process = _FORKS.Process(target=_consolidate, args=(home, kill_at, script))
    process.start()
    return process


async def ended(process: BaseProcess) -> int:
    """Its exit code, negative for a signal."""
    await asyncio.to_thread(process.join, 60)
    assert process.exitcode is not None
    return process.exitcode
