"""A server that is a program on this machine: JSON-RPC lines over its standard input and output.

The SDK's own transport starts programs itself, and neither says why one ended nor gives its stderr. This
one follows the same section of the specification (MCP 2025-11-25, "Transports: stdio", and "Lifecycle:
Shutdown").
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import McpError
from nanobot.mcp.results import WrittenContents
from nanobot.mcp.servers import address_of, safe_text
from nanobot.security.process import Process, start
from nanobot.security.screen import rendered

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams, WriteStream

log = logging.getLogger(__name__)

_LONGEST_LINE = 32 * 1024 * 1024  # bytes of one message
_UNREAD = 1000  # messages
_PATIENCE = 1.0  # seconds to end after SIGTERM
_LOG_LINE = 500  # characters of a stderr line that are kept
_LOG_LINES = 50  # stderr lines that are logged within _LOG_WINDOW seconds
_LOG_WINDOW = 60.0


class StdioServer:
    """One run of a server's program. It gets harmless variables of ours and its own `env`, no others.

    It runs in the owner's home folder: in the workspace a model could put files there that `npx` or
    `python -m` would take for the program.
    """

    last_status = 0  # of HTTP, which this is not

    def __init__(self, name: str, server: McpServerConfig, patience: float) -> None:
        self._name = name
        self._server = server
        self._patience = patience
        self._code: int | None = None
        self._last_line = b""  # of its stderr
        self._closing = False
        self.ended = False  # by itself
        self.written = WrittenContents()

    @property
    def last_words(self) -> str:
        """How the program ended, as far as known: exit code and last line of its stderr."""
        code = "" if self._code is None else f" with code {self._code}"
        last = self._plain(self._last_line).rstrip(".")
        return f"the program ended{code}." + (f" Its last words: {last}." if last else "")

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncGenerator[TransportStreams, None]:
        """Run the program while the block runs; afterwards nothing of it is left. Raises McpError."""
        process = await self._start()
        arriving, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        # With room to spare: who sends to a program that no longer reads must not wait for it.
        outgoing, leaving = anyio.create_memory_object_stream[SessionMessage](_UNREAD)
        work = (self._read(process, arriving), self._write(process, leaving), self._log_stderr(process))
        pumps = [asyncio.create_task(_until_closed(pump)) for pump in work]
        try:
            yield incoming, outgoing
        finally:
            self._closing = True
            try:
                if process.stdin is not None:
                    process.stdin.close()
                if not await process.exits(self._patience):
                    await process.stop(_PATIENCE)
            finally:
                process.kill()
                process.close()
                for pump in pumps:
                    pump.cancel()
                for stream in (arriving, incoming, outgoing, leaving):
                    stream.close()

    async def _start(self) -> Process:
        command = os.path.expanduser(self._server.command)  # noqa: PTH111 (a command is no path)
        folder = Path.home() / os.path.expanduser(self._server.cwd)  # noqa: PTH111 (Path's raises)
        if self._server.cwd and not folder.is_dir():
            raise McpError(f"tools.mcpServers.{self._name}.cwd is no folder. Correct it.")
        try:
            return await start(
                [command, *self._server.args],
                folder=folder if folder.is_dir() else None,
                variables=self._server.env,
                with_input=True,
                limit=_LONGEST_LINE,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it contains a NUL character"
            place, program = f"tools.mcpServers.{self._name}.command", address_of(self._server)
            fix = f"Install it, or write its full path in {place}."
            if " " in command and not command.startswith(("/", ".")):
                fix = f"Write the program alone in {place}, and the rest in args."
            raise McpError(f"cannot start {program}: {reason}. {fix}") from error

    async def _read(self, process: Process, arriving: WriteStream[SessionMessage | Exception]) -> None:
        """Pass on messages until the program ends. Banners that some print to stdout are skipped."""
        async for line in self._lines(process.stdout):
            try:
                message = jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                log.debug("MCP server %s wrote a line that is no message", self._name)
                continue
            self.written.note(line)
            await arriving.send(SessionMessage(message))
        self.ended = not self._closing
        await process.exits(_PATIENCE)
        self._code = process.code
        await arriving.aclose()

    async def _write(self, process: Process, leaving: ReadStream[SessionMessage]) -> None:
        assert process.stdin is not None
        async for message in leaving:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()

    async def _log_stderr(self, process: Process) -> None:
        began, logged = 0.0, 0
        async for line in self._lines(process.stderr):
            if not line.strip():
                continue
            self._last_line = line
            if time.monotonic() - began > _LOG_WINDOW:
                began, logged = time.monotonic(), 0
            logged += 1
            if logged <= _LOG_LINES:
                log.info("MCP server %s: %s", self._name, self._plain(line))
            elif logged == _LOG_LINES + 1:
                log.info("MCP server %s writes too much to stderr; the rest is left out", self._name)

    async def _lines(self, stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
        while True:
            try:
                line = await stream.readline()
            except ValueError:
                log.warning("MCP server %s wrote a line of more than %d bytes", self._name, _LONGEST_LINE)
                continue
            if not line:
                return
            yield line

    def _plain(self, line: bytes) -> str:
        """A line as a screen would show it, without the owner's secrets."""
        text = rendered(line[-16 * _LOG_LINE :].decode("utf-8", "replace"))
        text = "".join(char if char.isprintable() else " " for char in text).strip()
        return safe_text(text, self._server)[:_LOG_LINE]


async def _until_closed(work: Coroutine[Any, Any, None]) -> None:
    """Whoever reads from us notices by the closed stream that program or session are gone."""
    with contextlib.suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await work
