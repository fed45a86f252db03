"""Consolidation killed at every write, and done by several processes at once: everything is applied once."""

from __future__ import annotations

import itertools
import re
import signal
from pathlib import Path

import pytest

from nanobot import paths
from nanobot.memory.consolidation_table import ConsolidationTable
from tests.consolidation.forked import ended, model, model_beside_an_owner, start
from tests.consolidation.world import World


async def test_killed_at_every_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    died = []
    for number in itertools.count(1):
        home = tmp_path / f"home{number}"
        monkeypatch.setenv("NANOBOT_HOME", str(home))
        world = World(model)
        world.files.memory.write_text("# Mine\n- Lives in Berlin.\n- Has a cat.\n- Mother is Eva.\n")
        world.files.history.write_text("Kept by hand")
        await world.say("I live in Paris now, near the river.", "The cat died, Tom says.", "Tom is my friend")
        await world.new()
        await world.say("Ida is my friend", session="cli:other")
        await world.new("cli:other")
        died.append(await ended(start(home, number)))
        for _ in range(2):
            await world.consolidator.run_owed()
        assert await ConsolidationTable(world.store.database).pending_changes() == []
        assert await ConsolidationTable(world.store.database).unconsolidated(8) == []
        await world.store.aclose()
        assert re.sub(r" <!--.*", "", world.memory) == (
            "# Mine\n- Lives in Paris.\n- Mother is Eva.\n- Tom is my friend.\n- Ida is my friend.\n"
        )
        history = [re.sub(r" <!--.*", "", line) for line in world.history.splitlines()]
        assert history[0] == "Kept by hand"
        assert sorted(line.split("] ", 1)[1] for line in history[1:]) == [
            "They said: I live in Paris now, near the river. The cat died, Tom says. Tom is my friend",
            "They said: Ida is my friend",
            "expired: Has a cat.",
            "superseded: Lives in Berlin. → Lives in Paris.",
        ]
        assert not [path for path in home.rglob(".*.md.*") if died[-1] == 0]
        if died[-1] == 0:
            break
    assert set(died[:-1]) == {-signal.SIGKILL}
    assert len(died) > 20  # else the kills were not where they should be


async def test_two_processes_and_twenty_sessions_each_and_an_owner_who_edits() -> None:
    home = paths.home()
    world = World(model)
    world.files.memory.write_text("Old line\n")
    sessions = [f"cli:s{number}" for number in range(40)]
    for number, session in enumerate(sessions):
        await world.say(f"Friend{number} is my friend", session=session)
        await world.new(session)
    processes = [start(home, script=model_beside_an_owner) for _ in range(2)]
    assert [await ended(process) for process in processes] == [0, 0]
    await world.store.aclose()
    names = {f"Friend{number}" for number in range(40)}
    assert sorted(world.facts()) == sorted(
        ["Old line"]
        + [f"{name} is my friend." for name in names]
        + [f"Wrote {name} by hand." for name in names]
        + [f"Line before {name}" for name in names]
    )
    evidence = re.findall(r"<!-- (cli:s\d+)#1-2 -->", world.history)
    assert sorted(evidence) == sorted(sessions)
