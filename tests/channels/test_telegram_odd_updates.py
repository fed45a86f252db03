"""Whatever is in an update, those around it are heard."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanobot.channels.base import ChannelHost, trust_of
from nanobot.channels.telegram import TelegramChannel
from nanobot.channels.telegram_config import TelegramConfig
from nanobot.messages import InboundMessage
from tests.channels.test_telegram_inbound import BOT
from tests.peers.telegram_world import Json, World

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("//[x"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def rich(text: str) -> Json:
    """A message with something of nearly everything."""
    world = World("nano_bot")
    ann, picture = world.user(7, "ann"), world.media(b"PNG", None, None)
    ben = {"id": 8, "is_bot": False, "first_name": "Ben"}
    original = world.user(7, "ann").send("before")
    return {
        **ann.send(text),
        "entities": [{"type": "text_link", "offset": 0, "length": 2, "url": "https://a.b"}],
        "reply_to_message": {**original, **picture, "contact": {"first_name": "Dana"}},
        "external_reply": {"origin": {"type": "user", "sender_user": ben}},
        "forward_origin": {"type": "user", "sender_user": ben, "date": 1},
        "quote": {"text": "be", "position": 0},
        "document": {"file_id": "f", "file_name": "a.txt", "mime_type": "text/plain"},
        "poll": {"question": "Tea?", "options": [{"text": "yes"}]},
        "location": {"latitude": 1.5, "longitude": 2.5},
        "media_group_id": "g",
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into the message."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in items for found in places(inner, (*path, key)))]


@st.composite
def odd_messages(draw: st.DrawFn) -> Any:
    """The rich message without some of its parts, and with one that is something else."""
    message = rich("hello")
    for name in draw(st.sets(st.sampled_from(sorted(message)), max_size=8)):
        del message[name]
    path = draw(st.sampled_from(places(message)))
    if not path:
        return draw(ODD)
    where: Any = message
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = draw(ODD)
    return message


ANN = {"id": 7, "is_bot": False, "first_name": "Ann", "username": "ann"}
BEN = {"id": 8, "is_bot": False, "first_name": "Ben"}
# Forwarded, of a kind of chat that is new, and with a date long after the next message.
FORWARD = {
    "message_id": 3,
    "from": ANN,
    "chat": {"id": 7, "type": None},
    "date": 1_796_012_845,
    "text": "hello",
}
FORWARD |= {"forward_origin": {"type": "user", "sender_user": BEN, "date": 1}}


@settings(deadline=None, max_examples=300)
@given(odd_messages(), st.sampled_from([[], ["7"]]))
@example(FORWARD, [])
def test_an_odd_message_between_two_good_ones(odd: Any, allowed: list[str]) -> None:
    heard: list[str] = []

    async def accept(inbound: InboundMessage, names: Collection[str]) -> bool:
        if trust_of(allowed, inbound.sender_id, names):
            json.loads(json.dumps(asdict(inbound)))
            assert inbound.sent_at <= time.time()
            heard.append(inbound.text)
        return True

    async def run() -> list[Any]:
        config = TelegramConfig.model_validate({"token": "1:a"})
        channel = TelegramChannel("telegram", config, ChannelHost(accept, lambda: None))
        channel.connection = SimpleNamespace(bot=BOT)  # type: ignore[assignment]
        good = [World("nano_bot").user(7, "ann").send(text) for text in ("one", "two")]
        for number, message in enumerate(good):  # a minute apart from all others
            message.update(message_id=1000 + number, date=60 + 60 * number)
        updates = [{"update_id": n, "message": m} for n, m in enumerate((good[0], odd, good[1]))]

        async def more(known: int) -> list[Any]:
            return updates[known:]

        return [update["update_id"] async for update, _ in channel.receive(updates[:2], more)]

    assert asyncio.run(run()) == [0, 1, 2]
    assert (heard[0], heard[-1]) == ("one", "two")
