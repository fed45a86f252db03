"""A gateway killed before and after every single commit of a turn with two tools.

Every way to die leaves the same: one answer, in order, and an effect that is there once, or not known to be.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nanobot.messages import unanswered_calls
from nanobot.providers.scripted import ScriptedProvider
from tests.gateway.conftest import config_for, running_gateway
from tests.gateway.forked import all_delivered, check_database, model, run_until_killed
from tests.peers.loopback_platform import Platform

FIRST = "run echo done >> effects.log"
CALM = {"heartbeat": {"enabled": False}, "channels": {"sendProgress": False}}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_killed_at_every_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    told = []
    for number in itertools.count(1):
        home = tmp_path / f"home{number}"
        monkeypatch.setenv("NANOBOT_HOME", str(home))
        async with Platform() as platform:
            config = config_for(platform, **CALM)
            platform.user_sends("anna", FIRST)
            platform.user_sends("anna", "next")
            killed = await run_until_killed(home, config, platform, number, after)
            async with running_gateway(config, ScriptedProvider(model)) as (app, gateway):
                shown = await platform.wait_for("anna", 2)
                await all_delivered(app, gateway)
                history = [entry.message for entry in await app.store.sessions.history("loopback:anna")]
        told.append(_check(home, shown))
        assert unanswered_calls(history) == []
        check_database(home)
        if not killed:
            break
    assert number > 10  # else the kills were not where they should be
    assert any(told)
    assert not all(told)


def _check(home: Path, shown: list[str]) -> bool:
    """Whether the model was told that its command was interrupted."""
    effects = home / "workspace" / "effects.log"
    done = effects.read_text().splitlines() if effects.exists() else []
    told = shown[0].endswith("(interrupted)")
    assert [text.removesuffix(" (interrupted)") for text in shown] == [f"re {FIRST}", "re next"]
    assert done == ["done"] or (told and done == [])
    return told
