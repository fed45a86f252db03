"""A channel plugin for tests: speaks JSON lines over TCP with `tests/peers/loopback_platform.py`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from nanobot.channels.base import Channel
from nanobot.errors import ChannelError
from nanobot.messages import Attachment, InboundMessage, OutboundMessage


class LoopbackChannel(Channel):
    """`channels.loopback`: {"enabled": true, "port": 1234, "allowFrom": [], "sideBySide": false}."""

    _writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        try:
            reader, self._writer = await asyncio.open_connection("127.0.0.1", int(self.config["port"]))
        except OSError as error:
            raise ChannelError(f"The platform cannot be reached: {error}") from error
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self.host.connected()
        try:
            begun = b""
            while data := await reader.read(1 << 16):
                *lines, begun = (begun + data).split(b"\n")
                if self.config.get("sideBySide"):  # as a platform that hands over many at once is read
                    await asyncio.gather(*(self._take(json.loads(line)) for line in lines))
                    continue
                for line in lines:
                    await self._take(json.loads(line))
        finally:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None
            for future in self._waiting.values():
                future.cancel()

    async def _take(self, update: dict[str, Any]) -> None:
        if update["op"] == "sent":
            future = self._waiting.pop(update["key"], None)
            if future is not None and not future.done():
                if update.get("error") == "bug":
                    future.set_exception(RuntimeError("a bug of the channel"))
                elif update.get("error"):
                    future.set_exception(ChannelError(update["error"], permanent=update["permanent"]))
                else:
                    future.set_result(update["receipt"])
            return
        chat = update["chat"]
        files = tuple(Attachment("", name, "text/plain", ref=name) for name in update.get("files", ()))
        inbound = InboundMessage(
            self.name,
            chat,
            update.get("sender", chat),
            update["text"],
            str(update["id"]),
            f"{self.name}:{chat}",
            attachments=files,
            metadata={"reply_to": str(update["id"])},
        )
        await self.host.accept(inbound, update.get("names", ()))
        self._say({"op": "ack", "id": update["id"]})

    async def send(self, message: OutboundMessage) -> str:
        if self._writer is None:
            raise ChannelError("Not connected.")
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = future
        fields = {"key": message.id, "chat": message.chat_id, "text": message.text, "kind": message.kind}
        self._say({"op": "send", **fields, "files": [item.name for item in message.attachments]})
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                raise ChannelError("The connection broke.") from None
            raise

    async def fetch(self, attachment: Attachment, target: Path) -> None:
        target.write_text(f"content of {attachment.ref}")

    def _say(self, message: dict[str, Any]) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message).encode() + b"\n")
