"""A gateway that is paused and wakes up: its work is done once, and it serves again when it leads."""

from __future__ import annotations

import signal
from pathlib import Path

from nanobot.messages import InboundMessage
from nanobot.providers.scripted import ScriptedProvider
from nanobot.store.store import Store
from nanobot.store.workers import LEASE
from tests.gateway.conftest import config_for, running_gateway
from tests.gateway.forked import all_delivered, check_database, forked_gateway, model
from tests.peers.loopback_platform import Platform
from tests.talk import claim_next

QUIET = {"heartbeat": {"enabled": False}, "channels": {"sendProgress": False}}


def age_sign_of_life(home: Path) -> None:
    """As if the only worker had given no sign of life for longer than a lease."""
    (lock,) = (home / "run").glob("worker-*.lock")
    pid, seen_at = lock.read_text().split()
    lock.write_text(f"{pid:<12}{float(seen_at) - LEASE - 5:<20.3f}\n")


async def test_a_gateway_that_slept_stands_by_and_can_lead_again(
    home: Path, tmp_path: Path, platform: Platform
) -> None:
    config = config_for(platform, **QUIET)
    begun, go = (home / "workspace" / "memory" / name for name in ("begun", "go"))
    slow = f"run touch {begun}; until [ -e {go} ]; do sleep 0.05; done; echo done >> effects.log"
    async with forked_gateway(home, config) as paused:
        platform.user_sends("anna", slow)
        await paused.until(begun.exists)
        paused.send(signal.SIGSTOP)
        age_sign_of_life(home)
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


async def test_a_machine_that_slept_takes_no_turn_from_its_own_workers(home: Path) -> None:
    """The clock on the wall goes on while a laptop is closed; the monotonic one does not."""
    wall, monotonic = [1_000_000.0], [500.0]
    first, second = (Store(home / "nanobot.db", lambda: wall[0], lambda: monotonic[0]) for _ in range(2))
    assert await first.workers.lead()
    await first.inbox.accept(InboundMessage("loopback", "anna", "anna", "hi", "1", "loopback:anna"))
    assert await claim_next(first)
    wall[0] += 8 * 3600
    monotonic[0] += 1
    assert await claim_next(second) is None
    assert not await second.workers.lead()
    monotonic[0] += LEASE
    assert (await claim_next(second)) is not None
    assert await second.workers.lead()
    await first.aclose()
    await second.aclose()


async def test_whoever_gives_up_the_lead_gives_up_its_turns(home: Path) -> None:
    first, second = Store(home / "nanobot.db"), Store(home / "nanobot.db")
    assert await first.workers.lead()
    for chat in ("anna", "ben"):
        await first.inbox.accept(InboundMessage("loopback", chat, chat, "hi", chat, f"loopback:{chat}"))
        assert await claim_next(first)
    assert await claim_next(second) is None
    first.workers.release()
    for store in (second, first):
        turn = await claim_next(store)
        assert turn is not None
        assert turn.claim.epoch == 2
        assert turn.claim.epoch == 2
    assert await claim_next(first) is None
    await first.aclose()
    await second.aclose()
