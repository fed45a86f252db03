"""The kill loop (`make soak`): gateways die by kill -9 again and again; nothing accepted may be lost.

A chat platform, a model and the users live in this process, all on loopback. One or two real gateways run
beside it on one home, and one of them is killed every 0.3 to 2 seconds. Each message makes the model ask for
0 to 6 tool calls: reads (pure), notes to another chat (repeatable: they have a delivery key), and commands
that append a line to a log (once only: when nobody knows whether one ran, the model must be told so).

    SOAK_KILLS=1000 make soak                            # the long run, both variants
    python benchmarks/soak.py --gateways 2 --kills 50    # one variant
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import functools
import os
import random
import re
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from loopback_gateway import start_gateway, write_config  # noqa: E402
from soak_model import places, serve_model  # noqa: E402

from tests.peers.loopback_platform import Platform  # noqa: E402

REPLY = re.compile(r"re ((?:c\d+|log) m\d+)(?: \(interrupted ([\w ]+)\))?")
UNANSWERED = 3  # a user who waits for so many replies writes nothing more
PATIENCE = 180.0  # seconds without any reply after which the run is over, whatever is missing


@dataclass
class Soak:
    """One run: what was asked for, and what was seen."""

    gateways: int
    kills: int
    sessions: int
    messages: int
    seed: int
    home: Path
    sent: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    shown: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)  # something was shown
    killed: int = 0
    leader_died: float = 0.0  # 0 when its work has been taken over
    dead_leader: int = 0  # process id
    takeovers: list[float] = field(default_factory=list)
    broken_histories: list[str] = field(default_factory=list)

    @property
    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.home / 'nanobot.db'}?mode=ro", uri=True, isolation_level=None)


# -- the gateways


def leader(soak: Soak) -> int:
    """The process id of the gateway that serves."""
    with contextlib.closing(soak.database) as database:
        row = database.execute("SELECT worker FROM leaders").fetchone()
    with contextlib.suppress(OSError):  # the file of one that is gone may be, too
        return int((soak.home / "run" / f"worker-{row[0]}.lock").read_text().split()[0]) if row else 0
    return 0


async def kill_again_and_again(soak: Soak) -> None:
    chance = random.Random(soak.seed)
    while soak.killed < soak.kills:
        await asyncio.sleep(chance.uniform(0.3, 2.0))
        index = chance.randrange(soak.gateways)
        victim = soak.processes[index]
        if victim.pid == leader(soak):
            soak.leader_died = soak.leader_died or time.monotonic()
            soak.dead_leader = victim.pid
        victim.send_signal(signal.SIGKILL)
        await victim.wait()
        soak.killed += 1
        soak.processes[index] = await start_gateway(soak.home)
        if soak.killed % 50 == 0:
            print(f"  {soak.killed} kills, {sum(map(len, soak.shown.values()))} messages shown", flush=True)


# -- the users


async def feed(soak: Soak, platform: Platform, chat: str, stop: asyncio.Event) -> None:
    """One user: the agreed number of messages, and on until the last kill."""
    chance = random.Random(f"{soak.seed}-{chat}")
    sent = soak.sent[chat]
    while len(sent) < soak.messages or not stop.is_set():
        sent.append(f"{chat} m{len(sent) + 1}")
        platform.user_sends(chat, sent[-1])
        await asyncio.sleep(chance.uniform(0.0, 4.0))
        async with soak.news:
            await soak.news.wait_for(lambda: len(sent) - len(soak.shown[chat]) < UNANSWERED)


async def watch(soak: Soak, platform: Platform) -> None:
    """Sort what the platform shows by chat; the first message of a new leader ends a takeover."""
    seen = 0
    while True:
        fresh = platform.shown[seen:]
        seen += len(fresh)
        for message in fresh:
            soak.shown[message.chat].append(message.text)
        if fresh and soak.leader_died and leader(soak) != soak.dead_leader:
            soak.takeovers.append(time.monotonic() - soak.leader_died)
            soak.leader_died = 0.0
        async with soak.news:
            soak.news.notify_all()
        await asyncio.sleep(0.05)


async def until_all_is_answered(soak: Soak, platform: Platform) -> None:
    expected = len(expected_notes(soak)) + sum(map(len, soak.sent.values()))
    last, since = 0, time.monotonic()
    while len(platform.shown) < expected and time.monotonic() - since < PATIENCE:
        if len(platform.shown) > last:
            last, since = len(platform.shown), time.monotonic()
        await asyncio.sleep(0.2)
    await asyncio.sleep(1)  # time for a reply too many


def expected_notes(soak: Soak) -> set[str]:
    texts = [text for sent in soak.sent.values() for text in sent]
    return {f"{text}#{place}" for text in texts for place in places(text, "message")}


async def run(soak: Soak) -> bool:
    async with Platform() as platform:
        model = await asyncio.start_server(
            functools.partial(serve_model, soak.broken_histories), "127.0.0.1", 0, limit=2**26
        )
        write_config(soak.home, platform.port, model.sockets[0].getsockname()[1])
        started, stop = time.monotonic(), asyncio.Event()
        soak.processes = [await start_gateway(soak.home) for _ in range(soak.gateways)]
        watching = asyncio.create_task(watch(soak, platform))
        soak.sent["log"].append("log m1")
        platform.user_sends("log", "log m1")  # notes go only to a chat that has written before
        await platform.wait_for("log", 1)
        feeders = [asyncio.create_task(feed(soak, platform, f"c{n}", stop)) for n in range(soak.sessions)]
        await kill_again_and_again(soak)
        stop.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*feeders), PATIENCE)
        await until_all_is_answered(soak, platform)
        for process in soak.processes:
            process.terminate()
        await asyncio.gather(*(process.wait() for process in soak.processes))
        watching.cancel()
        model.close()
        return report(soak, platform, time.monotonic() - started)


# -- the verdict


def report(soak: Soak, platform: Platform, seconds: float) -> bool:
    """Print what was seen; True when every promise held."""
    accepted = sum(map(len, soak.sent.values())) - len(platform.unacknowledged)
    replies: dict[str, list[str]] = collections.defaultdict(list)
    notes: collections.Counter[str] = collections.Counter()
    told: set[str] = set()
    strange = list(soak.broken_histories)
    for message in platform.shown:
        if match := REPLY.fullmatch(message.text):
            replies[message.chat].append(match[1])
            told |= {f"{match[1]}#{place}" for place in (match[2] or "").split()}
        elif message.chat == "log" and "#" in message.text:
            notes[message.text] += 1
        else:
            strange.append(f"{message.chat}: {message.text}")
    lost = sum(len(set(texts) - set(replies[chat])) for chat, texts in soak.sent.items())
    first = {chat: list(dict.fromkeys(texts)) for chat, texts in replies.items()}
    reordered = sum(
        texts != [text for text in soak.sent[chat] if text in set(texts)] for chat, texts in first.items()
    )
    effects = collections.Counter((soak.home / "workspace" / "effects.log").read_text().splitlines())
    answered = [text for texts in first.values() for text in texts]
    once = {f"{text}#{place}" for text in answered for place in places(text, "exec")}
    with contextlib.closing(soak.database) as database:
        intact = database.execute("PRAGMA integrity_check").fetchone()[0]
        unfinished = database.execute("SELECT COUNT(*) FROM inbox WHERE state <> 'done'").fetchone()[0]
    takeovers = soak.takeovers or [0.0]
    bad = {
        "lost": lost,
        "reordered chats": reordered,
        "duplicated replies seen": sum(map(len, replies.values())) - sum(map(len, first.values())),
        "notes lost": len(expected_notes(soak) - set(notes)),
        "notes duplicated": sum(count > 1 for count in notes.values()),
        "once-only effects repeated": sum(count > 1 for count in effects.values()),
        "once-only effects missing unreported": len(once - set(effects) - told),
        "not acknowledged to the platform": len(platform.unacknowledged),
        "not done in the inbox": unfinished,
        "other replies and broken histories": len(strange),
        "damage to the database": int(intact != "ok"),
    }
    rows = {
        "gateways / kills / seconds": f"{soak.gateways} / {soak.killed} / {seconds:.0f}",
        "accepted": accepted,
        "answered": len(answered),
        **bad,
        "once-only effects / notes": f"{len(effects)} / {len(notes)}",
        "calls reported as interrupted": len(told),
        "sends repeated under one key": platform.repeated,
        "takeover p50 / max (s)": f"{statistics.median(takeovers):.2f} / {max(takeovers):.2f}",
    }
    for name, value in rows.items():
        print(f"{name:<38} {value}")
    print(*strange[:5], sep="\n", flush=True)
    return not any(bad.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gateways", type=int, choices=(1, 2), help="only this variant")
    parser.add_argument("--kills", type=int, default=int(os.environ.get("SOAK_KILLS", "80")))
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    one = options.kills * 6 // 10
    variants = {options.gateways: options.kills} if options.gateways else {1: one, 2: options.kills - one}
    good = []
    for gateways, kills in variants.items():
        with tempfile.TemporaryDirectory(prefix="nanobot-soak-") as folder:
            home = Path(folder) / "home"
            soak = Soak(gateways, kills, options.sessions, options.messages, options.seed, home)
            print(
                f"{gateways} gateway(s), {kills} kills, {soak.sessions} sessions, seed {soak.seed}",
                flush=True,
            )
            good.append(asyncio.run(run(soak)))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
