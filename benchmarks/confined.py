"""What a command costs in a sandbox that is open already, beside one outside."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Literal

from figures import Figure, typical

from nanobot.errors import SandboxMissing
from nanobot.security.process import Process, start
from nanobot.security.sandbox import Sandboxes

COMMAND = ["/bin/sh", "-c", "exit 0"]


async def measure(folder: Path, rounds: int) -> list[Figure]:
    """Wall time of one command, in turns with one outside."""
    return [await _extra("bwrap", folder, rounds, 15), await _extra("landlock", folder, rounds, None)]


async def _extra(
    way: Literal["bwrap", "landlock"], folder: Path, rounds: int, at_most: float | None
) -> Figure:
    home = folder / f"sandbox-{way}"
    workspace = home / "workspace"
    workspace.mkdir(parents=True)
    name = f"a command in a warm sandbox ({way}) - outside"
    plain, confined = [], []
    sandboxes = Sandboxes(way, workspace, home, [], restrict=False, network=True)
    async with contextlib.aclosing(sandboxes):
        try:
            sandbox = await sandboxes.of("bench", "")
        except SandboxMissing as error:
            return Figure(name, None, "ms", at_most, str(error))
        for _ in range(rounds * 10):
            begun = time.perf_counter()
            await _ends(await start(COMMAND, folder=workspace))
            plain.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            await _ends(await sandbox.start(COMMAND, workspace, {"PATH": os.environ["PATH"]}))
            confined.append(time.perf_counter() - begun)
    note = f"{typical(confined) * 1000:.1f} / {typical(plain) * 1000:.1f} ms"
    return Figure(name, (typical(confined) - typical(plain)) * 1000, "ms", at_most, note)


async def _ends(process: Process) -> None:
    if not await process.is_over(10) or process.code:
        raise SystemExit("a command failed")
    process.close()
