"""What commands reach from where they run, tried by commands themselves, for `nanobot doctor`."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import tempfile

from nanobot import paths
from nanobot.config.schema import Config
from nanobot.tools.built_in import commands_of
from nanobot.tools.command import CommandOutput, run_in_shell

READS, WRITES, SEES, CONNECTS = "read a secret", "write outside", "see other programs", "reach loopback"


async def what_commands_reach(config: Config) -> tuple[str, dict[str, bool]]:
    """What confines them (empty: nothing), and for each of the four whether they do it.

    Raises SandboxMissing and OSError.
    """
    home, us = paths.home(), os.getpid()
    workspace = config.workspace_path
    workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        tempfile.NamedTemporaryFile("w", dir=home, prefix="doctor-") as secret,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        name, port = shlex.quote(secret.name), server.getsockname()[1]
        tries = {
            READS: f"cat {name}",
            WRITES: f"echo x >> {name}",
            SEES: f"kill -0 {us} || test -d /proc/{us}",
            CONNECTS: f"exec 3<>/dev/tcp/127.0.0.1/{port}",
        }
        async with contextlib.aclosing(commands_of(config)) as programs:
            sandboxes = programs.sandboxes()
            sandbox = await sandboxes.of("doctor", "") if sandboxes else None
            reached = {}
            for what, command in tries.items():
                output = CommandOutput()
                code = await run_in_shell(command, workspace, (), 10, output, programs.folder, sandbox)
                reached[what] = code == 0
        reached[WRITES] = os.fstat(secret.fileno()).st_size > 0  # what is written may be its own
    return type(sandbox).__name__ if sandbox else "", reached
