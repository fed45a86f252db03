"""A gateway killed around every commit of a turn that spawns a subagent, of the subagent, and of its report.

Every way to die leaves the same: one subagent, one report, and an effect that is there once, or not known.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from pathlib import Path

import pytest

from nanobot.bus.hub import Hub, wait_for
from nanobot.messages import unanswered_calls
from nanobot.providers.scripted import ScriptedProvider
from nanobot.store.store import Store
from tests.gateway.conftest import config_for, running_gateway
from tests.gateway.forked import (
    AT_INTENT,
    AT_RESULT,
    all_delivered,
    check_database,
    forked_gateway,
    model,
    run_until_killed,
)
from tests.peers.loopback_platform import Platform

TASK = "run echo done >> effects.log"
CALM = {"heartbeat": {"enabled": False}, "channels": {"sendProgress": False}}


@pytest.mark.timeout(300)  # some twenty gateways, one after the other
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_every_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    told = []
    # Commits of the chat and of its subagent alternate as they like: the place that matters is met by name.
    for number in itertools.chain([AT_INTENT if after else AT_RESULT], itertools.count(1)):
        home = tmp_path / f"home{number}"
        monkeypatch.setenv("NANOBOT_HOME", str(home))
        async with Platform() as platform:
            config = config_for(platform, **CALM)
            platform.user_sends("anna", f"delegate {TASK}")
            killed = await run_until_killed(home, config, platform, number, after)
            async with running_gateway(config, ScriptedProvider(model)) as (app, gateway):
                shown = await platform.wait_for("anna", 2)
                await all_delivered(app, gateway)
                (subagent,) = await app.store.subagents.of("loopback:anna")
                history = [e.message for e in await app.store.sessions.history(f"subagent:{subagent.id}")]
        assert (subagent.state, unanswered_calls(history)) == ("done", [])
        told.append(_check(home, shown))
        check_database(home)
        if not killed:
            break
    assert number > 14  # else the kills were not where they should be
    assert told[0]
    assert not all(told)


def _check(home: Path, shown: list[str]) -> bool:
    """Whether the subagent was told that its command was interrupted."""
    effects = home / "workspace" / "effects.log"
    done = effects.read_text().splitlines() if effects.exists() else []
    answer, news = shown
    told = news.endswith("(interrupted)")
    assert (answer, news.removesuffix(" (interrupted)")) == (f"re delegate {TASK}", f"told re {TASK}")
    assert done == ["done"] or (told and done == [])
    return told


async def test_a_subagent_stays_stopped_when_its_gateway_dies_before_it_could_stop(
    home: Path, platform: Platform
) -> None:
    config = config_for(platform, **CALM)
    async with forked_gateway(home, config) as gateway_process:
        platform.user_sends("anna", "delegate hang")
        await platform.wait_for("anna", 1)
        store = Store(home / "nanobot.db")
        hub = Hub(store)
        watching = asyncio.create_task(hub.watch())
        async with asyncio.timeout(20):
            with hub.changes() as changed:
                while [info.state for info in await store.subagents.of("loopback:anna")] != ["running"]:
                    await wait_for(changed, 1)
        watching.cancel()
        gateway_process.send(signal.SIGKILL)
        await gateway_process.ended()
    (subagent,) = await store.subagents.of("loopback:anna")
    assert await store.subagents.cancel("loopback:anna", {subagent.id: None}) == [subagent.id]
    await store.aclose()
    async with running_gateway(config, ScriptedProvider(model)) as (app, gateway):
        platform.user_sends("anna", "hello")
        await platform.wait_until(lambda: platform.texts("anna")[-1] == "re hello")
        await all_delivered(app, gateway)
        (subagent,) = await app.store.subagents.of("loopback:anna")
        assert subagent.state == "cancelled"
        assert gateway.dispatcher.running == 0
    assert platform.texts("anna") == ["re delegate hang", "re hello"]
    check_database(home)


async def test_a_gateway_that_stops_leaves_its_subagents_to_the_next_one(
    home: Path, platform: Platform
) -> None:
    config = config_for(platform, agents={"defaults": {"maxConcurrentSubagents": 1}}, **CALM)
    async with forked_gateway(home, config) as gateway_process:
        platform.user_sends("anna", "delegate hang")
        platform.user_sends("anna", "delegate next")
        await platform.wait_for("anna", 2)
        gateway_process.send(signal.SIGTERM)
        assert await gateway_process.ended() == 0
    patient = ScriptedProvider(
        lambda request: "found" if "subagent" in request.system[:20] else model(request)
    )
    async with running_gateway(config, patient) as (app, gateway):
        assert (await platform.wait_for("anna", 4))[2:] == ["told found"] * 2
        await all_delivered(app, gateway)
    check_database(home)
