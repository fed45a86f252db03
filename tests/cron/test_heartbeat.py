"""The heartbeat: silent when there is nothing to do, never twice, always a fresh context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanobot.bus.signal import ChangeSignal, wait_for
from nanobot.cron.heartbeat import Heartbeat, has_tasks
from nanobot.messages import InboundMessage, Message
from nanobot.store.store import open_store
from tests.talk import claim_next

START = 1_800_000_000.0
TASK = "- [ ] Scan inbox for urgent emails"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n  \n",
        "# Tasks\n\n## Periodic Tasks\n",
        "<!-- one line -->",
        "<!--\n- [ ] an example\nof a task\n-->\n# Tasks",
        "<!-- never closed\n- [ ] an example",
        "- [ ]\n* [ ] \n+ []\n1. [ ]\n-",
        "- [x] done\n  - [X] done too\n\t* [x]",
        (Path(__file__).parents[2] / "nanobot/workspace/templates/HEARTBEAT.md").read_text(),
    ],
)
def test_nothing_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "HEARTBEAT.md").write_text(text)
    assert not has_tasks(tmp_path / "HEARTBEAT.md")


@pytest.mark.parametrize(
    "text",
    [
        TASK,
        f"<!-- a comment --> {TASK}",
        f"<!--\n-->\n{TASK}",
        "Water the plants",
        "- Water the plants",
        "- [x] done\n- [ ] open",
        "1. [ ] numbered",
        "#hashtag\nand a line",
        "[x]mas is near",
    ],
)
def test_something_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "HEARTBEAT.md").write_text(text)
    assert has_tasks(tmp_path / "HEARTBEAT.md")


class World:
    """A store, a file, and a clock that tests move."""

    def __init__(self, home: Path) -> None:
        self.now = START
        self.store = open_store(home / "nanobot.db", lambda: self.now)
        self.file = home / "HEARTBEAT.md"
        self.file.write_text(TASK)

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self.store,
            self.file,
            ("telegram", "slack"),
            interval=1800,
            clock=lambda: self.now,
        )

    async def hear(self, channel: str, chat: str) -> None:
        self.now += 1
        await self.store.inbox.accept(
            InboundMessage(channel, chat, chat, "hi", str(self.now), f"{channel}:{chat}")
        )
        await self.serve()

    async def serve(self) -> list[InboundMessage]:
        served = []
        while (turn := await claim_next(self.store)) is not None:
            await self.store.turns.append(turn.claim, Message.user(turn.inbound.text))
            await self.store.turns.finish(turn.claim, "done")
            served.append(turn.inbound)
        return served


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    running = World(tmp_path)
    yield running
    await running.store.aclose()


async def test_a_tick_goes_to_the_latest_chat_of_an_enabled_channel(world: World) -> None:
    await world.hear("slack", "old")
    await world.hear("telegram", "anna")
    await world.hear("disabled", "eve")
    assert await world.heartbeat().tick()
    (tick,) = await world.serve()
    assert (tick.channel, tick.chat_id, tick.session_key) == ("telegram", "anna", "heartbeat")
    assert (tick.source, tick.metadata) == ("heartbeat", {})
    assert "HEARTBEAT_OK" in tick.text


async def test_nobody_has_written_yet(world: World) -> None:
    assert not await world.heartbeat().tick()
    assert await world.serve() == []


async def test_without_tasks_or_without_the_file_nothing_happens(world: World) -> None:
    await world.hear("telegram", "anna")
    world.file.write_text("# Tasks\n- [x] done")
    assert not await world.heartbeat().tick()
    world.file.unlink()
    assert not await world.heartbeat().tick()


async def test_two_gateways_tick_once_an_interval(world: World) -> None:
    await world.hear("telegram", "anna")
    first, second = world.heartbeat(), world.heartbeat()
    assert await first.tick()
    assert len(await world.serve()) == 1
    await world.hear("slack", "ben")  # the latest chat is another one now
    assert not await second.tick()
    world.now += 1800
    assert await second.tick()
    assert [tick.chat_id for tick in await world.serve()] == ["ben"]


async def test_never_two_at_once(world: World) -> None:
    await world.hear("telegram", "anna")
    heartbeat = world.heartbeat()
    assert await heartbeat.tick()
    world.now += 1800
    assert not await heartbeat.tick()  # the first one waits
    turn = await claim_next(world.store)
    assert turn is not None
    world.now += 1800
    assert not await heartbeat.tick()  # the first one runs
    await world.store.turns.finish(turn.claim, "done")
    assert await heartbeat.tick()


async def test_every_tick_begins_with_an_empty_context(world: World) -> None:
    await world.hear("telegram", "anna")
    for _ in range(3):
        world.now += 1800
        assert await world.heartbeat().tick()
        assert await world.store.sessions.context("heartbeat", 100) == []
        await world.serve()
        assert len(await world.store.sessions.context("heartbeat", 100)) == 1
    assert len(await world.store.sessions.history("heartbeat")) == 3


async def test_two_running_gateways_share_the_intervals(tmp_path: Path) -> None:
    """The real clock, and an interval of a second."""
    stores = [open_store(tmp_path / "nanobot.db") for _ in range(2)]
    file = tmp_path / "HEARTBEAT.md"
    file.write_text(TASK)
    await stores[0].inbox.accept(InboundMessage("telegram", "anna", "anna", "hi", "1", "telegram:anna"))
    beats = [asyncio.create_task(Heartbeat(store, file, ["telegram"], 1.0).run()) for store in stores]
    signal = ChangeSignal(stores[0])
    watching = asyncio.create_task(signal.watch())
    ticks: list[str] = []
    with signal.subscribe() as changed:
        async with asyncio.timeout(30):
            while len(ticks) < 3:
                await wait_for(changed, 1)
                while (turn := await claim_next(stores[0])) is not None:
                    await stores[0].turns.finish(turn.claim, "done")
                    ticks += [turn.inbound.external_id] * (turn.inbound.session_key == "heartbeat")
    for task in (*beats, watching):
        task.cancel()
    await asyncio.gather(*beats, watching, return_exceptions=True)
    assert len(set(ticks)) == len(ticks)
    for store in stores:
        await store.aclose()
