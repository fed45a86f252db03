"""Telegram for the conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.channels.conformance.driver import Driver, Rejected, Shown
from tests.peers.telegram_api import TOKEN, TelegramServer


class TelegramDriver(Driver):
    channel = "telegram"
    sdk = "telegram"
    limit = 4096
    owner = "7"
    stranger = "8"
    rejected = (
        Rejected({"token": "123456:revoked-or-mistyped"}, "does not accept the bot token"),
        Rejected({"token": "YOUR_BOT_TOKEN"}, "is no bot token"),
        Rejected({"token": ""}, "is no bot token"),
    )

    async def start(self) -> None:
        self.server = await TelegramServer().__aenter__()
        self.people = {stranger: self.server.user(7 + stranger) for stranger in (False, True)}

    async def stop(self) -> None:
        await self.server.__aexit__(None, None, None)

    def section(self, **more: Any) -> dict[str, Any]:
        return {"enabled": True, "token": TOKEN, "apiBase": self.server.url, "allowFrom": ["7"], **more}

    def chat(self) -> str:
        return "7"

    def says(self, text: str, *, stranger: bool = False, file: tuple[str, bytes] | None = None) -> object:
        return self.people[stranger].send(text, document=file)

    def repeat(self, said: Any) -> None:
        self.server.add_update("message", said)

    def poison(self) -> None:
        message = self.server.new_message(self.server.chats[7], {"id": "seven", "is_bot": 0})
        self.server.add_update("message", {**message, "entities": [{"type": "mention"}]})

    def rate_limit(self, seconds: int) -> None:
        self.server.fail("sendMessage", 429, retry_after=seconds)

    def lose_next(self) -> None:
        self.server.drop("sendMessage")

    def refuse_markup(self) -> None:
        self.server.fail("sendMessage", 400, description="Bad Request: can't parse entities: unsupported tag")

    def shown(self) -> list[Shown]:
        return [
            Shown(
                sent.text,
                tuple(
                    sent.text.encode("utf-16-le")[2 * e.offset : 2 * (e.offset + e.length)].decode(
                        "utf-16-le"
                    )
                    for e in sent.entities
                    if e.type == "pre"
                ),
                sent.file_name,
                sent.file_data,
            )
            for sent in self.server.sent
            if sent.chat_id == 7 and not sent.deleted
        ]

    def waiting(self) -> int:
        return len(self.server.updates)

    def noticed(self, *, stranger: bool) -> bool:
        chat = 7 + stranger
        acted = any(action[0] == chat for action in self.server.actions)
        return (
            acted
            or any(sent.chat_id == chat for sent in self.server.sent)
            or (stranger and self.server.count("getFile") > 0)
        )

    async def wait_for(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        await self.server.wait_for(condition, seconds)
