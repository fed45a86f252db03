"""A home that the commands of 0.2.0 have made opens with nothing lost, killed at every step of the migration.

The folder `cli_home_0_2_0` was made by 56069e0: conversations with a tool call, a subagent, two jobs, a
consolidation, a skill, a terminal that was killed, one message of a chat that waits and a reply not sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from nanobot.cron.jobs import JobTable
from nanobot.errors import HomeUnusable
from nanobot.store.migrations import MIGRATIONS
from nanobot.store.store import Store
from tests.talk import claim_next

OLD_HOME = Path(__file__).with_name("cli_home_0_2_0")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    shutil.copytree(OLD_HOME / "workspace", home / "workspace")
    with contextlib.closing(sqlite3.connect(home / "nanobot.db")) as database:
        database.executescript((OLD_HOME / "nanobot.sql").read_text("utf-8"))
    return home


async def check(home: Path) -> None:
    """Everything is there."""
    async with contextlib.aclosing(Store(home / "nanobot.db", lambda: 1_796_000_000.0)) as store:
        infos = {info.key: info for info in await store.conversations.newest()}
        counts = {key: (info.title, info.messages) for key, info in infos.items() if info.kind == "chat"}
        assert counts == {
            "cli:direct": ("My boat is called Albatros.", 16),
            "cli:work": ("Counting files", 6),
            "cli:garden": ("remind me of the plants", 4),
            "cli:cut": ("hang on", 1),
            "telegram:7": ("Are you there?", 2),
        }
        history = [entry.message for entry in await store.sessions.history("cli:direct")]
        assert [message.role for message in history[:6]] == [
            *("user", "assistant", "user", "assistant", "tool", "assistant")
        ]
        assert history[4].tool_results[0].content.startswith("AGENTS.md")
        assert (await store.sessions.open("cli:direct")).window.summary
        (subagent,) = await store.subagents.of("cli:work")
        assert (subagent.label, subagent.state, subagent.calls) == ("counting", "done", 1)
        assert len(await store.sessions.history(f"subagent:{subagent.id}")) == 2
        jobs = {job.name: job.message for job in await JobTable(store).all()}
        assert jobs == {"tea": "Drink tea.", "Water the plants.": "Water the plants."}
        interrupted = await store.turns.last_interrupted("cli:cut")
        assert interrupted is not None
        assert interrupted == "hang on"
        (reply,) = await store.outbox.due()
        assert (reply.message.id, reply.message.text) == ("turn-13", "Yes.")
        turn = await claim_next(store)
        assert turn is not None
        assert turn.inbound.text == "And now?"


async def test_nothing_is_lost(home: Path) -> None:
    await check(home)


async def test_it_is_left_alone_while_0_2_0_works_on_it(home: Path) -> None:
    """Which would lose its tables in the middle of its turns."""
    (home / "run").mkdir()
    before = (home / "nanobot.db").read_bytes()
    with (home / "run" / "worker-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with contextlib.aclosing(Store(home / "nanobot.db")) as store:
            with pytest.raises(HomeUnusable, match="older nanobot is running"):
                await store.conversations.newest()
        with contextlib.closing(sqlite3.connect(home / "nanobot.db")) as database:
            assert list(database.execute("PRAGMA user_version")) == [(5,)]
            assert list(database.execute("SELECT COUNT(*) FROM workers"))
    assert (home / "nanobot.db").stat().st_size == len(before)
    await check(home)


def test_the_commands_find_everything(home: Path) -> None:
    """Memory, history and the skill too: each is found by the command a person would use."""

    def nanobot(*arguments: str) -> str:
        environment = {**os.environ, "NANOBOT_HOME": str(home)}
        command = [sys.executable, "-m", "nanobot", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert "Counting files" in nanobot("session", "list")
    assert "Drink tea." in nanobot("cron", "list", "--json")
    assert "tides" in nanobot("skills", "list")
    found = nanobot("memory", "search", "Albatros")
    assert "The owner's boat is called Albatros." in found
    assert "cli:direct#1" in found


_DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from nanobot.store import sqlite
from nanobot.store.store import Store

class Mortal(sqlite.Connection):
    left = int(sys.argv[2])

    def execute(self, statement, *parameters):
        Mortal.left -= 1
        if not Mortal.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(statement, *parameters)

sqlite.Connection = Mortal
asyncio.run(Store(Path(sys.argv[1])).conversations.newest())
"""


@pytest.mark.parametrize("part", range(4))
async def test_killed_at_every_step_of_the_migration_it_opens_again(home: Path, part: int) -> None:
    """Every fourth step; the parts together meet all."""
    step, copy = 1 + part, home / "copy"
    copy.mkdir()
    while True:
        shutil.copy(home / "nanobot.db", copy)
        command = [sys.executable, "-c", _DYING, str(copy / "nanobot.db"), str(step)]
        ended = (await asyncio.to_thread(subprocess.run, command, check=False)).returncode
        await check(copy)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        for path in copy.glob("nanobot.db*"):
            path.unlink()
        step += 4
    assert step > len(MIGRATIONS[11].split(";\n"))
