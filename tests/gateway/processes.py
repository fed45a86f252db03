"""Gateways as their owner starts them: real processes on a home, with the loopback channel installed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gateway.conftest import PLUGIN
from tests.peers.loopback_platform import Platform

CHECKOUT = Path(__file__).parents[2]


@dataclass
class GatewayProcess:
    """A running `nanobot gateway`; `log` is what it wrote to stderr so far."""

    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            await self._note(line.decode().rstrip("\n"))
        await self._note("(end)")

    async def _note(self, line: str) -> None:
        async with self._changed:
            self.log.append(line)
            self._changed.notify_all()

    async def says(self, text: str) -> str:
        """The first line with this text, as soon as there is one."""

        def found() -> bool:
            return any(text in line for line in self.log) or self.log[-1:] == ["(end)"]

        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(found)
        return next(line for line in self.log if text in line)

    async def port(self) -> int:
        """Where it serves HTTP, which is when it leads."""
        found = re.search(r"port (\d+)$", await self.says("/health and /status are at"))
        assert found
        return int(found[1])

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float = 12) -> int:
        async with asyncio.timeout(seconds):
            await self._reading
            return await self.process.wait()


class Home:
    """A home with a scripted model and the loopback channel of `platform`."""

    def __init__(self, folder: Path, platform: Platform | None = None) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "NANOBOT_HOME": str(self.home),
            "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{PLUGIN}",
            "LANG": "C.UTF-8",
        }
        self.config: dict[str, Any] = {"gateway": {"port": 0}}
        if platform is not None:
            self.config["channels"] = {"loopback": {"enabled": True, "port": platform.port, "allowFrom": []}}
        self.script({"text": "pong"}, loop=True)
        self._running: list[GatewayProcess] = []

    def script(self, *replies: dict[str, Any], loop: bool = False) -> None:
        path = self.folder / "script.json"
        path.write_text(json.dumps({"replies": replies, "loop": loop}))
        self.configure(agents={"defaults": {"model": f"scripted/{path}"}})

    def configure(self, **sections: Any) -> None:
        self.config |= sections
        (self.home / "config.json").write_text(json.dumps(self.config))
        (self.home / "config.json").chmod(0o600)

    async def gateway(self, *arguments: str) -> GatewayProcess:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nanobot", "gateway", *arguments),
            env=self.env,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._running.append(GatewayProcess(process))
        return self._running[-1]

    async def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of another command on this home."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nanobot", *arguments),
            env=self.env,
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    async def close(self) -> None:
        for gateway in self._running:
            if gateway.process.returncode is None:
                gateway.send(signal.SIGKILL)
            await gateway.ended()
