"""The heartbeat: silent when there is nothing to do, never twice, always a fresh context."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.bus.hub import Hub, wait_for
from nanobot.cron.heartbeat import Heartbeat, has_tasks
from nanobot.messages import InboundMessage, Message
from nanobot.store.store import Store
from tests.talk import claim_next

START = 1_800_000_000.0
TASK = "- [ ] Scan inbox for urgent emails"


TEMPLATE = (Path(__file__).parents[2] / "nanobot/workspace/templates/HEARTBEAT.md").read_text()
OLDER_TEMPLATE = """# Heartbeat Tasks

This file is checked every 30 minutes by your nanobot agent.
Add tasks below that you want the agent to work on periodically.

If this file has no tasks (only headers and comments), the agent will skip the heartbeat.

## Active Tasks

<!-- Add your periodic tasks below this line -->


## Completed

<!-- Move completed tasks here or delete them -->
"""
# Each asks for nothing, wherever it stands and whatever is above or below.
DECORATIONS = [
    "",
    "  \t",
    "# Tasks",
    "## Periodic Tasks ##",
    "#Tasks",
    "---",
    "* * *",
    "___",
    "~~~~",
    "────────",
    "<hr/>",
    "<br>",
    "```",
    "```markdown\n# Keep this empty\n```",
    "~~~ yaml\n~~~",
    "**Tasks**",
    "**Tasks:**",
    "__Periodic tasks__:",
    "📋 **Periodic tasks** —",
    "Tasks\n=====",
    "Periodic tasks\n--------------",
    "> The heart beats twice an hour.\n> - like this",
    ">",
    "| Task | When |\n|:---|---:|",
    "Task | When\n--- | ---",
    "| ~~water~~ | |",
    "| [x] water | daily |",
    "<!-- one line -->",
    "<!--\n- [ ] an example\nof a task\n-->",
    "[//]: # (a comment of Markdown)",
    "-",
    "- [ ]\n* [ ] \n+ []\n1. [ ]\n[ ]",
    "- [x] done\n  - [X] done too\n\t* [x]",
    "1) [X] done\n\n   how it was done\n   - in two steps",
    "- ~~done~~\n    on Monday",
    "- [ ] ~~done~~ ✓",
    "- <del>done</del>",
    "~~all of it~~ ~~done~~",
    OLDER_TEMPLATE,
]
TASKS = [
    TASK,
    "Water the plants",
    "给植物浇水",
    "- Water the plants",
    "* [ ] Water the plants",
    "2. [ ] Water the plants",
    "3) Water the plants",
    "[ ] Water the plants",
    "- [ ]Water the plants",
    "> - [ ] Water the plants",
    "## [ ] Water the plants",
    "- **Water the plants**",
    "**Plants** need water",
    "*Water the plants*",
    "- ~~Cut~~ Water the plants",
    "| Water the plants | daily |",
    "| [ ] Water | [x] Cut |",
    "```\nWater the plants\n```",
    "- [x] done\n  - [ ] open",
    "- [x] done\n- Water the plants",
    "<!-- a comment --> Water the plants",
    "[x]mas is near",
    "10:30",
    "https://example.com/plants",
    "Water the plants\n---",
    "This file is checked every day by my neighbour.",
    "<b>Water the plants</b>",
]


def asks_for_something(folder: Path, content: str | bytes) -> bool:
    file = folder / "HEARTBEAT.md"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return has_tasks(file)


@pytest.mark.parametrize(
    "text",
    [
        *DECORATIONS,
        TEMPLATE,
        "<!-- never closed\n- [ ] an example",
        "---\ntitle: Heartbeat\ntags:\n  - tasks\n- more\n\n# a comment\n---\n# Tasks",
        "---\nowner: anna\n...\n",
        "==========\n# Tasks\n==========",
        "\ufeff# Tasks\r\n\r\n---\r\n".encode(),
        "\ufeff---\ntitle: Heartbeat\n---".encode(),
        "# Tasks\n---".encode("utf-16"),
    ],
)
def test_nothing_to_do(tmp_path: Path, text: str | bytes) -> None:
    assert not asks_for_something(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        *TASKS,
        f"<!--\n-->\n{TASK}",
        "#hashtag\nand a line",
        "---\n- Water the plants\n---",
        "---\nplants:\n  - [ ] water\n---",
        "---\nkey: never closed\nWater the plants",
        "# Tasks\nWater the plants".encode("utf-16"),
        b"# T\xe4glich\nBlumen gie\xdfen",
    ],
)
def test_something_to_do(tmp_path: Path, text: str | bytes) -> None:
    assert asks_for_something(tmp_path, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(
    above=st.lists(st.sampled_from(DECORATIONS), max_size=6),
    task=st.sampled_from(["", *TASKS]),
    below=st.lists(st.sampled_from(DECORATIONS), max_size=6),
    line_end=st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_an_open_task_is_seen_among_all_decorations_and_only_then(
    tmp_path: Path, above: list[str], task: str, below: list[str], line_end: str
) -> None:
    content = line_end.join([*above, task, *below]).replace("\n\n\n", "\n\n")
    assert asks_for_something(tmp_path, content) == bool(task), content


@pytest.mark.parametrize(
    "piece", ["> ", "- ", "1. ", "~~", "<!--", "[ ] ", "|", "**", "# ", "a: ", "`", "<b "]
)
def test_looking_takes_no_time_whatever_is_there(tmp_path: Path, piece: str) -> None:
    """Each is a way in which a careless pattern becomes quadratic."""
    for content in (f"---\n{piece * 200_000}", f"|\n{piece * 200_000}x", f"{piece}\n" * 50_000):
        asks_for_something(tmp_path, content)


def test_a_link_that_leaves_the_workspace_is_named_and_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = tmp_path / "workspace"
    (workspace / "notes").mkdir(parents=True)
    (tmp_path / "secret.md").write_text(TASK)
    link = workspace / "HEARTBEAT.md"
    link.symlink_to(tmp_path / "secret.md")
    assert not has_tasks(link)
    assert "outside the workspace" in caplog.text
    link.unlink()
    link.hardlink_to(tmp_path / "secret.md")
    assert not has_tasks(link)
    link.unlink()
    os.mkfifo(link)
    assert not has_tasks(link)
    link.unlink()
    (workspace / "notes/today.md").write_text(TASK)
    link.symlink_to("notes/today.md")
    assert has_tasks(link)


class World:
    """A store, a file, and a clock that tests move."""

    def __init__(self, home: Path) -> None:
        self.now = START
        self.store = Store(home / "nanobot.db", lambda: self.now)
        self.file = home / "HEARTBEAT.md"
        self.file.write_text(TASK)

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(
            self.store,
            self.file,
            ("telegram", "slack"),
            interval=1800,
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


async def test_it_goes_on_after_the_clock_was_set_back(world: World) -> None:
    await world.hear("telegram", "anna")
    for _ in range(3):
        world.now += 1800
        assert await world.heartbeat().tick()
        await world.serve()
    world.now -= 4000
    for _ in range(2):
        assert await world.heartbeat().tick()
        await world.serve()
        assert not await world.heartbeat().tick()
        world.now += 1800


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
        assert (await world.store.sessions.open("heartbeat", 100)).messages == []
        await world.serve()
        assert len((await world.store.sessions.open("heartbeat", 100)).messages) == 1
    assert len(await world.store.sessions.history("heartbeat")) == 3


async def test_two_running_gateways_share_the_intervals(tmp_path: Path) -> None:
    """The real clock, and an interval of a second."""
    stores = [Store(tmp_path / "nanobot.db") for _ in range(2)]
    file = tmp_path / "HEARTBEAT.md"
    file.write_text(TASK)
    await stores[0].inbox.accept(InboundMessage("telegram", "anna", "anna", "hi", "1", "telegram:anna"))
    beats = [asyncio.create_task(Heartbeat(store, file, ["telegram"], 1.0).run()) for store in stores]
    hub = Hub(stores[0])
    watching = asyncio.create_task(hub.watch())
    ticks: list[int] = []
    with hub.changes() as changed:
        async with asyncio.timeout(30):
            while len(ticks) < 3:
                await wait_for(changed, 1)
                while (turn := await claim_next(stores[0])) is not None:
                    await stores[0].turns.finish(turn.claim, "done")
                    ticks += [int(turn.inbound.sent_at)] * (turn.inbound.session_key == "heartbeat")
    for task in (*beats, watching):
        task.cancel()
    await asyncio.gather(*beats, watching, return_exceptions=True)
    assert len(set(ticks)) == len(ticks)
    for store in stores:
        await store.aclose()
