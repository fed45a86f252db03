"""A chat platform on loopback: keeps what users send until it is acknowledged, and shows what bots send.

It behaves like a platform with idempotency keys: the same key twice is shown once, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Shown:
    """A message as its chat sees it."""

    key: str
    chat: str
    text: str
    kind: str
    files: tuple[str, ...] = ()


@dataclass
class Platform:
    """The server. `fail` may return an error text for a send, or None to let it pass."""

    port: int = 0
    shown: list[Shown] = field(default_factory=list)
    repeated: int = 0
    unacknowledged: dict[int, dict[str, Any]] = field(default_factory=dict)
    fail: Callable[[Shown], str | None] = lambda message: None

    async def __aenter__(self) -> Platform:
        self._next = 0
        self._clients: set[asyncio.StreamWriter] = set()
        self._keys: set[str] = set()
        self._changed = asyncio.Condition()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for client in list(self._clients):
            client.close()
        await self._server.wait_closed()

    def user_sends(self, chat: str, text: str, **more: Any) -> int:
        """A user writes; delivered to the connected bot, or as soon as one connects."""
        self._next += 1
        update = {"op": "update", "id": self._next, "chat": chat, "text": text, **more}
        self.unacknowledged[self._next] = update
        for client in self._clients:
            _write(client, update)
        return self._next

    def texts(self, chat: str) -> list[str]:
        return [message.text for message in self.shown if message.chat == chat]

    async def wait_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Wait for something to be shown or acknowledged."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def wait_for(self, chat: str, count: int, seconds: float = 20.0) -> list[str]:
        await self.wait_until(lambda: len(self.texts(chat)) >= count, seconds)
        return self.texts(chat)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            for update in list(self.unacknowledged.values()):
                _write(writer, update)
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    await self._take(json.loads(line), writer)
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _take(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if message["op"] == "ack":
            self.unacknowledged.pop(message["id"], None)
        else:
            _write(writer, self._show(message))
        async with self._changed:
            self._changed.notify_all()

    def _show(self, message: dict[str, Any]) -> dict[str, Any]:
        shown = Shown(
            message["key"], message["chat"], message["text"], message["kind"], tuple(message["files"])
        )
        answer = {"op": "sent", "key": shown.key, "receipt": shown.key}
        error = self.fail(shown)
        if error:
            return {**answer, "error": error, "permanent": error.startswith("permanent")}
        if shown.key in self._keys:
            self.repeated += 1
        else:
            self._keys.add(shown.key)
            self.shown.append(shown)
        return answer


def _write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")
