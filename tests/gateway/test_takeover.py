"""A gateway that is paused and wakes up: its work is done once, and it serves again when it leads."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import time_machine

from nanobot.messages import InboundMessage
from nanobot.providers.scripted import ScriptedProvider
from nanobot.store.records import GATEWAY_ROLE
from nanobot.store.store import open_store
from nanobot.store.workers import LEASE
from tests.gateway.conftest import config_for, running_gateway
from tests.gateway.forked import all_delivered, check_database, forked_gateway, model
from tests.peers.loopback_platform import Platform

QUIET = {"heartbeat": {"enabled": False}, "channels": {"sendProgress": False}}


async def test_a_gateway_that_slept_stands_by_and_can_lead_again(
    home: Path, tmp_path: Path, platform: Platform
) -> None:
    config = config_for(platform, **QUIET)
    begun, go = tmp_path / "begun", tmp_path / "go"
    slow = f"run touch {begun}; until [ -e {go} ]; do sleep 0.05; done; echo done >> effects.log"
    async with forked_gateway(home, config) as paused:
        platform.user_sends("anna", slow)
        await paused.until(begun.exists)
        paused.send(signal.SIGSTOP)
        # the other one's clock says that the sleeper has given no sign of life for longer than a lease
        with time_machine.travel(time.time() + LEASE + 5, tick=True):
            async with running_gateway(config, ScriptedProvider(model)) as (app, gateway):
                assert await platform.wait_for("anna", 1) == [f"re {slow} (interrupted)"]
                go.touch()
                paused.send(signal.SIGCONT)
                await paused.says("was taken over by another gateway")
                await paused.says("this one stands by")
                platform.user_sends("anna", "next")
                assert await platform.wait_for("anna", 2) == [f"re {slow} (interrupted)", "re next"]
                await all_delivered(app, gateway)
        await paused.says("It leads", times=2)
        platform.user_sends("anna", "hang")
        await platform.wait_until(lambda: not platform.unacknowledged)
        platform.user_sends("anna", "/stop")
        platform.user_sends("anna", "last")
        assert (await platform.wait_for("anna", 4))[2:] == ["Stopped.", "re last"]
        paused.send(signal.SIGTERM)
        assert await paused.ended() == 0
    assert (home / "workspace" / "effects.log").read_text() == "done\n"
    check_database(home)


async def test_whoever_gives_up_the_lead_gives_up_its_turns(home: Path) -> None:
    first, second = open_store(home / "nanobot.db"), open_store(home / "nanobot.db")
    assert await first.workers.lead(GATEWAY_ROLE)
    for chat in ("anna", "ben"):
        await first.inbox.accept(InboundMessage("loopback", chat, chat, "hi", chat, f"loopback:{chat}"))
        assert await first.turns.claim_next()
    assert await second.turns.claim_next() is None
    await first.workers.resign(GATEWAY_ROLE)
    for store in (second, first):
        turn = await store.turns.claim_next()
        assert turn is not None
        assert turn.resumed
        assert turn.claim.epoch == 2
    assert await first.turns.claim_next() is None
    await first.aclose()
    await second.aclose()
