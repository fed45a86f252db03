"""Discord for the conformance suite."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.channels.conformance.driver import Driver, Rejected, Shown
from tests.peers.discord_api import TOKEN, DiscordServer
from tests.peers.discord_world import DIRECT_MESSAGES, Event

_FENCE = re.compile(r"```(?:[\w+#.-]+\n|\n)?(.*?)\n?```", re.DOTALL)
_MARKUP = re.compile(r"\\(.)|(\*\*|~~|``|\*|^#{1,3} )", re.MULTILINE)


class DiscordDriver(Driver):
    channel = "discord"
    sdk = "discord"
    limit = 2000
    rejected = (
        Rejected({"token": "revoked.or.mistyped"}, "does not accept the bot token"),
        Rejected({"token": ""}, "does not accept the bot token"),
        Rejected({"intents": 37377 | 1 << 30}, "remove that key"),
    )
    acknowledges = False
    refuses_markup = False
    deduplicates = True

    async def start(self) -> None:
        self.server = await DiscordServer().__aenter__()
        self.people = {False: self.server.user("owner_of_it"), True: self.server.user("eve")}
        self.owner, self.stranger = (str(person.id) for person in self.people.values())

    async def stop(self) -> None:
        await self.server.__aexit__(None, None, None)

    def section(self, **more: Any) -> dict[str, Any]:
        addresses = {"apiBase": self.server.api_base, "gatewayUrl": self.server.gateway_url}
        return {"enabled": True, "token": TOKEN, "allowFrom": [self.owner], **addresses, **more}

    def chat(self) -> str:
        return str(self.people[False].dm.id)

    def says(self, text: str, *, stranger: bool = False, file: tuple[str, bytes] | None = None) -> object:
        return self.people[stranger].send(text, files=[file] if file else [])

    def repeat(self, said: Any) -> None:
        self.server.publish("MESSAGE_CREATE", said)

    def poison(self) -> None:
        broken = {"id": "1", "channel_id": self.chat(), "author": None, "content": 5}
        self.server.emit(Event("MESSAGE_CREATE", broken, DIRECT_MESSAGES))

    def rate_limit(self, seconds: int) -> None:
        self.server.fail("create_message", 429, retry_after=seconds)

    def lose_next(self) -> None:
        self.server.drop("create_message")

    def shown(self) -> list[Shown]:
        sent = [s for s in self.server.sent if s.message["channel_id"] == self.chat() and not s.deleted]
        return [
            Shown(
                seen(one.text),
                tuple(_FENCE.findall(one.text)),
                *(one.files[0] if one.files else ("", b"")),
            )
            for one in sent
        ]

    def waiting(self) -> int:
        return 0

    def noticed(self, *, stranger: bool) -> bool:
        chat = self.people[stranger].dm.id
        written = any(sent.message["channel_id"] == str(chat) for sent in self.server.sent)
        return written or chat in self.server.typing or (stranger and self.server.count("download") > 0)

    async def wait_for(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        await self.server.wait_for(condition, seconds)


def seen(content: str) -> str:
    """What Discord's client makes of a text: blocks of code as they are, elsewhere marks become styles."""
    parts = re.split(r"(```(?:[\w+#.-]+\n|\n)?.*?\n?```)", content, flags=re.DOTALL)
    return "".join(
        _FENCE.sub(r"\1", part) if part.startswith("```") else _MARKUP.sub(lambda m: m[1] or "", part)
        for part in parts
    )
