"""Gateways that a test can kill, stop and starve: forked from a process that has nanobot imported.

Their model answers `re <text>` to a message. Before that, `run <command>` makes it list the workspace and
then run the command, and it says "(interrupted)" when it is told that a call was. `delegate <text>` gives the
text to a subagent, whose report is answered by `told <report>`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from nanobot.app import App, open_app
from nanobot.bus.hub import wait_for
from nanobot.config.schema import Config
from nanobot.gateway import Gateway
from nanobot.messages import INTERRUPTED, Message, ToolCall, ToolResult
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply, ScriptedProvider
from nanobot.store import sqlite
from tests.gateway.conftest import PLUGIN
from tests.peers.loopback_platform import Platform

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.gateway.forked"])


def model(request: ModelRequest) -> Reply:
    """See above. `hang` is answered by an answer that never ends."""
    begin = max(i for i, message in enumerate(request.messages) if message.role == "user")
    text, since = request.messages[begin].text, request.messages[begin:]
    steps = sum(bool(message.tool_calls) for message in since)
    if text == "hang":
        return Reply("I am", wait=asyncio.Event())
    if text.startswith("[Subagent "):
        return Reply(f"told {text.splitlines()[1]}")
    if text.startswith("delegate ") and steps == 0:
        return Reply(tool_calls=[ToolCall(text, "spawn", {"task": text.removeprefix("delegate ")})])
    if text.startswith("run ") and steps == 0:
        return Reply(tool_calls=[ToolCall(f"read {text}", "list_dir", {"path": "."})])
    if text.startswith("run ") and steps == 1:
        return Reply(tool_calls=[ToolCall(text, "exec", {"command": text.removeprefix("run ")})])
    return Reply(f"re {text}" + (" (interrupted)" if any(map(_is_interrupted, since)) else ""))


def _is_interrupted(message: Message) -> bool:
    return any(isinstance(part, ToolResult) and INTERRUPTED in part.content for part in message.parts)


# Instead of a number: the commit that notes that a command is about to run, and the one with its result.
AT_INTENT, AT_RESULT = -1, -2


class _Mortal(sqlite.Connection):
    """Kills the process before or after its n-th commit that changes something."""

    kill_at = 0
    marked = False  # the running transaction is the one to die at
    after = False
    commits = 0

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        if statement.startswith("BEGIN"):
            self._changes, self.marked = self.total_changes, False
        self.marked = self.marked or _is_place(self.kill_at, statement, *parameters)
        if statement != "COMMIT" or self.total_changes == self._changes:
            return super().execute(statement, *parameters)
        _Mortal.commits += 1
        last = self.marked or _Mortal.commits == _Mortal.kill_at
        if last and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = super().execute(statement)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def _is_place(kill_at: int, statement: str, values: Sequence[object] = ()) -> bool:
    if kill_at == AT_INTENT and "INTO intents" in statement:
        return any(str(value).startswith("run ") for value in values)
    if kill_at == AT_RESULT and "INTO messages" in statement:
        return any('"tool_result"' in str(value) and '"exec"' in str(value) for value in values)
    return False


def _serve(home: Path, config: Config, log: Path, kill_at: int, after: bool) -> None:
    os.environ["NANOBOT_HOME"] = str(home)
    sys.path.insert(0, str(PLUGIN))
    logging.basicConfig(filename=log, level=logging.INFO)
    if kill_at:
        _Mortal.kill_at, _Mortal.after = kill_at, after
        sqlite.Connection = _Mortal  # type: ignore[misc]
    asyncio.run(_run(config))


async def _run(config: Config) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_app(config) as app:
        app.models.use(app.assistant.default_model, ScriptedProvider(model))
        await Gateway(app).run(stop, lambda: logging.getLogger("nanobot").info("It leads"))


class ForkedGateway:
    """A gateway process on `home`, with its log beside the home or in `log`."""

    def __init__(
        self, home: Path, config: Config, *, log: Path | None = None, kill_at: int = 0, after: bool = False
    ) -> None:
        home.mkdir(mode=0o700, exist_ok=True)
        self.home = home
        self._log = log or home.with_suffix(".log")
        arguments = (home, config, self._log, kill_at, after)
        self.process: BaseProcess = _FORKS.Process(target=_serve, args=arguments)
        self.process.start()

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, number)

    async def says(self, text: str, *, times: int = 1) -> None:
        """Wait until its log holds `text` so many times."""
        await self.until(lambda: self.log().count(text) >= times)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that this process does."""
        async with asyncio.timeout(30):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.02)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def ended(self) -> int:
        """Its exit code, negative for a signal."""
        await asyncio.to_thread(self.process.join, 20)
        assert self.process.exitcode is not None
        return self.process.exitcode


@contextlib.asynccontextmanager
async def forked_gateway(home: Path, config: Config, **how: Any) -> AsyncIterator[ForkedGateway]:
    gateway = ForkedGateway(home, config, **how)
    try:
        yield gateway
    finally:
        gateway.send(signal.SIGCONT)
        gateway.send(signal.SIGKILL)
        await gateway.ended()


async def run_until_killed(home: Path, config: Config, platform: Platform, number: int, after: bool) -> bool:
    """Run a gateway until it is killed at its n-th commit; False when it got to a clean end before."""
    async with forked_gateway(home, config, kill_at=number, after=after) as gateway:
        ending = asyncio.create_task(gateway.ended())
        answered = asyncio.create_task(platform.wait_for("anna", 2))
        await asyncio.wait([ending, answered], return_when=asyncio.FIRST_COMPLETED)
        gateway.send(signal.SIGTERM)
        answered.cancel()
        return await ending == -signal.SIGKILL


async def all_delivered(app: App, gateway: Gateway) -> None:
    """Wait until the outbox is empty: the platform sees a reply before nanobot knows that it did."""
    async with asyncio.timeout(20):
        with gateway.hub.changes() as changed:
            while (await app.store.outbox.backlog())["pending"]:
                await wait_for(changed, 0.5)


def check_database(home: Path) -> None:
    """Nothing is damaged, and nothing is left undone."""
    with contextlib.closing(sqlite3.connect(home / "nanobot.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT * FROM inbox WHERE state <> 'done'").fetchall() == []
        assert database.execute("SELECT * FROM turns WHERE state = 'running'").fetchall() == []
        assert database.execute("SELECT * FROM outbox WHERE state <> 'sent'").fetchall() == []
