"""The cron tool: only the jobs of its own chat, once for each call, never from a scheduled turn."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nanobot.agent.tools import tool_surroundings
from nanobot.cron.jobs import JobTable, due_message
from nanobot.errors import ToolError
from nanobot.messages import Source
from nanobot.store.store import Store
from nanobot.tools.cron import CronTool
from tests.talk import turn_in

NOW = 1_800_000_000.0


@pytest.fixture
async def book(tmp_path: Path) -> AsyncIterator[JobTable]:
    store = Store(tmp_path / "nanobot.db", lambda: NOW)
    yield JobTable(store)
    await store.aclose()


@contextlib.contextmanager
def turn(
    chat: str = "anna",
    *,
    channel: str = "telegram",
    call: str = "c1",
    metadata: Mapping[str, str] | None = None,
    source: Source = "person",
) -> Iterator[None]:
    context = turn_in(f"{channel}:{chat}", number=9, metadata=metadata or {}, source=source)
    with tool_surroundings(context, call, lambda text: None):
        yield


async def call(book: JobTable, action: str, **arguments: Any) -> str:
    return await CronTool(book.store).execute(action=action, **arguments)


async def test_add_delivers_to_the_chat_and_thread_it_was_asked_in(book: JobTable) -> None:
    with turn(metadata={"thread": "7"}):
        added = await call(book, "add", message="Remind anna to water all of the plants", every_seconds=60)
    (job,) = await book.all()
    assert job.id in added
    assert (job.channel, job.chat_id, job.deliver, job.metadata) == (
        "telegram",
        "anna",
        True,
        {"thread": "7"},
    )
    assert job.name == "Remind anna to water all of th"
    assert job.next_at == NOW + 60


async def test_a_job_of_a_group_stays_a_group_s(book: JobTable) -> None:
    context = turn_in("telegram:-5", number=9, is_group=True)
    with tool_surroundings(context, "c1", lambda text: None):
        await call(book, "add", message="Lunch", every_seconds=60)
    with turn(call="c2"):
        await call(book, "add", message="Water the plants", every_seconds=60)
    due = {job.message: due_message(job, NOW).is_group for job in await book.all()}
    assert due == {"Lunch": True, "Water the plants": False}


async def test_a_call_that_runs_again_after_a_crash_adds_once(book: JobTable) -> None:
    for call_id in ("c1", "c1", "c2"):
        with turn(call=call_id):
            await call(book, "add", message="tea", cron_expr="0 9 * * *", tz="Europe/Berlin")
    assert len(await book.all()) == 2


async def test_a_chat_sees_and_removes_its_own_jobs_only(book: JobTable) -> None:
    with turn("anna"):
        await call(book, "add", message="secret", at="2030-01-01T09:00")
    (job,) = await book.all()
    with turn("eve"):
        assert await call(book, "list") == "No jobs are scheduled."
        with pytest.raises(ToolError, match="no job"):
            await call(book, "remove", job_id=job.id)
    with turn("direct", channel="cli"):
        assert "secret" in await call(book, "list")
    with turn("anna"):
        assert "secret" in await call(book, "list")
        assert await call(book, "remove", job_id=job.id) == f"Removed job {job.id}."
    assert await book.all() == []


@pytest.mark.parametrize("source", ["schedule", "heartbeat", "order", "report"])
async def test_a_scheduled_turn_cannot_schedule(book: JobTable, source: Source) -> None:
    with turn(source=source), pytest.raises(ToolError, match="cannot schedule"):
        await call(book, "add", message="again", every_seconds=60)
    with turn("direct", channel="cli", source=source):
        assert await call(book, "list") == "No jobs are scheduled."


async def test_a_terminal_is_told_where_the_output_goes(book: JobTable) -> None:
    with turn("direct", channel="cli"):
        told = await call(book, "add", message="tea", every_seconds=60)
    assert "goes to the owner's chat" in told
    assert "nanobot gateway install" in told, "no gateway runs, and only a gateway serves it"
    (job,) = await book.all()
    assert (job.channel, job.deliver) == ("cli", True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"message": "tea"}, "exactly one"),
        ({"message": "tea", "every_seconds": 60, "at": "2030-01-01T09:00"}, "exactly one"),
        ({"message": "tea", "every_seconds": -1}, "one second or more"),
        ({"message": "tea", "every_seconds": 0, "at": ""}, "exactly one"),
        ({"message": "tea", "at": "2020-01-01T09:00"}, "has passed"),
        ({"message": "tea", "at": "2030-01-01T09:00", "tz": "UTC"}, "cron expression only"),
        ({"message": " ", "every_seconds": 60}, "Give the message"),
        ({"message": "tea", "cron_expr": "nonsense"}, "five fields"),
    ],
)
async def test_mistakes_are_explained_to_the_model(book: JobTable, arguments: Any, words: str) -> None:
    with turn(), pytest.raises(ToolError, match=words):
        await call(book, "add", **arguments)
    assert await book.all() == []
