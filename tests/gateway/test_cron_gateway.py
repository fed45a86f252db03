"""Schedules in a running gateway: everything at once, and each turn acts in its own chat only (F1)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from nanobot.bus.hub import wait_for
from nanobot.cron.jobs import Job, JobTable, due_message
from nanobot.errors import AuthError
from nanobot.gateway import Gateway
from nanobot.messages import ToolCall
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.gateway.conftest import config_for, running_gateway
from tests.peers.loopback_platform import Platform

OFF = {"enabled": False}


async def until(gateway: Gateway, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that shows in the store."""
    with gateway.hub.changes() as changed:
        async with asyncio.timeout(20):
            while not await condition():
                await wait_for(changed, 1)


def newest(request: ModelRequest) -> str:
    return next(message.text for message in reversed(request.messages) if message.role == "user")


def since_newest(request: ModelRequest) -> list[str]:
    """The results of the tools that ran in this turn."""
    results: list[str] = []
    for message in request.messages:
        results = [] if message.role == "user" else results + [r.content for r in message.tool_results]
    return results


def busy_model(request: ModelRequest) -> Reply:
    """Speaks through the message tool, tries to schedule, and then answers."""
    said, results = newest(request), since_newest(request)
    who = next(word for word in ("anna", "ben", "tea", "Heartbeat") if word in said)
    if not results:
        return Reply(
            tool_calls=[
                ToolCall("", "message", {"content": f"interim for {who}"}),
                ToolCall("", "cron", {"action": "add", "message": f"job of {who}", "every_seconds": 9999}),
                ToolCall("", "cron", {"action": "list"}),
            ]
        )
    return Reply(f"the answer to {who}: {results[1]} / {results[2]}")


async def test_two_chats_a_job_and_a_heartbeat_at_once(platform: Platform) -> None:
    provider = ScriptedProvider(busy_model)
    async with running_gateway(config_for(platform), provider) as (app, gateway):
        platform.user_sends("anna", "I am anna")
        await platform.wait_for("anna", 1)
        (app.workspace / "HEARTBEAT.md").write_text("- [ ] a task")
        book = JobTable(app.store)
        await book.add(Job("0badcafe", "tea", "tea", {}, "loopback", "carl"), every=1)
        platform.user_sends("ben", "I am ben")
        assert await gateway.heartbeat.tick()
        await platform.wait_until(
            lambda: (
                bool(platform.texts("ben") and platform.texts("carl"))
                and any("interim for Heartbeat" in platform.texts(chat) for chat in ("anna", "ben"))
            )
        )
        await book.enable("0badcafe", False)

        async def idle() -> bool:
            return gateway.dispatcher.running == 0

        await until(gateway, idle)
        jobs = await book.all()
    assert set(platform.texts("anna")) <= {"interim for anna", "interim for Heartbeat"}
    assert set(platform.texts("ben")) <= {"interim for ben", "interim for Heartbeat"}
    assert set(platform.texts("carl")) == {"interim for tea"}
    # Scheduled turns have scheduled nothing, and each chat only for itself.
    own = {(job.chat_id, job.message) for job in jobs}
    assert own == {("anna", "job of anna"), ("ben", "job of ben"), ("carl", "tea")}
    for request in provider.requests:
        for listing in since_newest(request)[2:]:
            assert ("job of ben" in listing) <= ("job of anna" not in listing)


async def test_a_job_answers_in_its_chat_and_knows_what_it_is(platform: Platform) -> None:
    provider = ScriptedProvider(["Time for tea!"], loop=True)
    async with running_gateway(config_for(platform, heartbeat=OFF), provider) as (app, _):
        await JobTable(app.store).add(Job("0badcafe", "tea", "/new tea", {}, "loopback", "anna"), every=1)
        assert (await platform.wait_for("anna", 1))[0] == "Time for tea!"
    asked = newest(provider.requests[0])
    assert asked.startswith("[Scheduled job 'tea' is due now.")
    assert asked.endswith("/new tea")


@pytest.mark.parametrize("deliver", [True, False])
async def test_a_failing_job_is_visible(platform: Platform, deliver: bool) -> None:
    async with running_gateway(config_for(platform, heartbeat=OFF), ScriptedProvider([])) as (app, gateway):
        book = JobTable(app.store)
        await book.add(Job("0badcafe", "tea", "tea", {}, "loopback", "anna", deliver), every=1)
        assert (await platform.wait_for("anna", 1))[0].startswith("⚠️")

        async def failed() -> bool:
            job = await book.get("0badcafe")
            return job.last_status == "error" and "no reply left" in job.last_error

        await until(gateway, failed)


async def test_a_quiet_job_says_nothing_and_one_without_chat_leaves_no_delivery(platform: Platform) -> None:
    def model(request: ModelRequest) -> Reply:
        failure = AuthError("The key is wrong.") if "chatless" in newest(request) else None
        return Reply("done", error=failure)

    provider = ScriptedProvider(model)
    async with running_gateway(config_for(platform, heartbeat=OFF), provider) as (app, gateway):
        book = JobTable(app.store)
        await book.add(Job("0badcafe", "quiet", "x", {}, "loopback", "anna", deliver=False), every=1)
        await book.add(Job("0badcaff", "chatless", "x", {}, deliver=False), every=1)

        async def both_ran() -> bool:
            return {(job.name, job.last_status) for job in await book.all()} == {
                ("quiet", "ok"),
                ("chatless", "error"),
            }

        await until(gateway, both_ran)
        assert platform.texts("anna") == []
        assert await app.store.outbox.entries() == []


async def test_a_heartbeat_with_nothing_to_tell_is_silent(platform: Platform) -> None:
    answers = iter(["hello", "**HEARTBEAT_OK**", "hello again"])
    provider = ScriptedProvider(lambda _: next(answers))
    async with running_gateway(config_for(platform), provider) as (app, gateway):
        platform.user_sends("anna", "hi")
        await platform.wait_for("anna", 1)
        assert not await gateway.heartbeat.tick()  # the file of a fresh workspace asks for nothing
        (app.workspace / "HEARTBEAT.md").write_text("- [ ] a task")
        assert await gateway.heartbeat.tick()

        async def ticked() -> bool:
            return len(provider.requests) == 2 and gateway.dispatcher.running == 0

        await until(gateway, ticked)
        platform.user_sends("anna", "hi")
        assert await platform.wait_for("anna", 2) == ["hello", "hello again"]
    assert len(provider.requests[1].messages) == 1


async def test_a_job_speaks_in_its_own_chat_only(platform: Platform) -> None:
    to_ben = ToolCall("c1", "message", {"content": "psst", "chat_id": "ben"})

    def model(request: ModelRequest) -> Reply:
        if "Scheduled job" not in str(request.messages[-1].parts) and request.messages[-1].role == "user":
            return Reply("hello")
        return Reply("done") if request.messages[-1].role == "tool" else Reply(tool_calls=[to_ben])

    async with running_gateway(config_for(platform), ScriptedProvider(model)) as (app, _):
        for chat in ("ben", "anna"):
            platform.user_sends(chat, "hi")
            await platform.wait_for(chat, 1)
        job = Job("00000001", "tell ben", "tell ben", {}, channel="loopback", chat_id="anna")
        await app.store.inbox.accept(due_message(job, 1.0))
        assert await platform.wait_for("anna", 2) == ["hello", "done"]
        assert platform.texts("ben") == ["hello"]
