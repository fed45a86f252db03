"""The running gateway (part of `make bench`): what it costs idle, how fast it answers, and if that stays so.

Two gateways are measured side by side: in the small home every session has 100 messages (a model is shown no
more), in the full one 2,000, which makes 100,000, and as many inbox and outbox rows. Platform and model are
on loopback in this process and answer at once. Promises: idle memory and CPU (P2), and the CPU of a turn in
the full home over that in the small one (P3).
Exit 1 when one is broken. The figures also go to benchmarks/last-gateway.json.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from loopback_gateway import start_gateway, write_config  # noqa: E402
from model_server import chunk, read_request  # noqa: E402

from nanobot.messages import Message, message_to_json  # noqa: E402
from nanobot.store.store import open_store  # noqa: E402
from tests.peers.loopback_platform import Platform  # noqa: E402

SESSIONS, TURNS, ROUNDS = 50, 20, 2  # a round runs TURNS / ROUNDS of each session on either home
IDLE_SECONDS = 20
MOST_MEGABYTES, MOST_CPU_PERCENT, MOST_RATIO = 60.0, 0.5, 1.3


@dataclass
class Served:
    """A gateway on a home, and what was measured of it."""

    name: str
    home: Path
    platform: Platform
    messages: int  # that every session has at first
    process: asyncio.subprocess.Process | None = None
    sent_at: dict[str, float] = field(default_factory=dict)
    pickups: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: list[float] = field(default_factory=list)  # seconds a turn, one figure a round
    turns: int = 0

    def used_cpu(self) -> float:
        """CPU seconds of the process until now."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / 1e6


async def serve_model(served: Served, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer at once, and note when a message was first asked about."""
    try:
        while True:
            messages = (await read_request(reader))["messages"]
            text = str(messages[-1]["content"]).strip().rpartition("\n")[2]
            if text in served.sent_at:
                served.pickups.append(time.perf_counter() - served.sent_at.pop(text))
            events = [chunk({"content": f"re {text}"}, None), chunk({}, "stop")]
            body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            writer.write((head + body).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the gateway has gone
    finally:
        writer.close()


async def fill(home: Path, each: int) -> None:
    """A home in which every session has so many messages, all long since answered and consolidated."""
    store = open_store(home / "nanobot.db")
    await store.sessions.newest()
    await store.aclose()
    bodies = [
        json.dumps(message_to_json(message))
        for message in (
            Message.user("What became of the harbour master's ledger?"),
            Message.assistant("In the archive."),
        )
    ]
    inbound = {"chat_id": "x", "sender_id": "x", "text": "What?", "session_key": "x", "channel": "loopback"}
    database = sqlite3.connect(home / "nanobot.db")
    for session in range(SESSIONS):
        key, first = f"loopback:c{session}", session * each
        database.execute(
            "INSERT INTO sessions (key, title, created_at, updated_at, last_seq, consolidated_seq)"
            " VALUES (?, 'old', 1, 1, ?, ?)",
            (key, each, each),
        )
        rows = range(1, each + 1)
        database.executemany(
            "INSERT INTO messages (session, seq, turn, created_at, body) VALUES (?, ?, ?, 1, ?)",
            [(key, n, first + n, bodies[n % 2 == 0]) for n in rows],
        )
        database.executemany(
            "INSERT INTO turns (id, session, origin, state, worker, first_seq, started_at, finished_at)"
            " VALUES (?, ?, 'inbox', 'done', 1, ?, 1, 1)",
            [(first + n, key, n) for n in rows],
        )
        database.executemany(
            "INSERT INTO inbox (channel, external_id, session, received_at, state, turn, body)"
            " VALUES ('loopback', ?, ?, 1, 'done', ?, ?)",
            [(f"old-{first + n}", key, first + n, json.dumps(inbound)) for n in rows],
        )
        database.executemany(
            "INSERT INTO outbox (key, channel, chat_id, created_at, state, body)"
            " VALUES (?, 'loopback', ?, 1, 'sent', '{}')",
            [(f"turn-{first + n}", f"c{session}") for n in rows],
        )
    database.commit()
    database.close()


async def talk(served: Served, turns: int) -> None:
    """Let every session have so many turns, each as soon as the one before is answered."""
    begun, cpu = time.perf_counter(), served.used_cpu()
    answered: collections.Counter[str] = collections.Counter()
    total, shown = SESSIONS * turns, served.platform.shown
    seen = len(shown)

    def is_news() -> bool:
        return len(shown) > seen

    for session in range(SESSIONS):
        send(served, f"c{session}")
    while sum(answered.values()) < total:
        await served.platform.wait_until(is_news, 60)
        fresh = shown[seen:]
        seen += len(fresh)
        for message in fresh:
            answered[message.chat] += 1
            if answered[message.chat] < turns:
                send(served, message.chat)
    served.seconds += time.perf_counter() - begun
    served.cpu.append((served.used_cpu() - cpu) / total)


def send(served: Served, chat: str) -> None:
    served.turns += 1
    text = f"question {served.turns}"
    served.sent_at[text] = time.perf_counter()
    served.platform.user_sends(chat, text)


async def start(served: Served) -> None:
    model = await asyncio.start_server(
        lambda reader, writer: serve_model(served, reader, writer), "127.0.0.1", 0, limit=2**26
    )
    write_config(served.home, served.platform.port, model.sockets[0].getsockname()[1])
    await fill(served.home, served.messages)
    served.process = await start_gateway(served.home)
    served.platform.user_sends("warm", "up")
    await served.platform.wait_for("warm", 1)


async def measure_idle(served: Served) -> float:
    """Percent of a core that a gateway with nothing to do uses."""
    await asyncio.sleep(2)  # what the last turn left to do
    before = served.used_cpu()
    await asyncio.sleep(IDLE_SECONDS)
    return (served.used_cpu() - before) / IDLE_SECONDS * 100


def report(homes: list[Served], idle_megabytes: float, idle_percent: float) -> bool:
    """Print the figures and say whether every promise holds."""
    print(f"\n{SESSIONS} sessions x {TURNS} turns on a model that answers at once")
    print(f"{'':<24}{'turns/s':>10}{'CPU ms':>10}{'pickup p50':>12}{'p99 ms':>10}")
    figures = {}
    for served in homes:
        cuts = quantiles(served.pickups, n=100)
        rate = SESSIONS * TURNS / served.seconds
        cpu = median(served.cpu)
        print(
            f"{served.name + ' home':<24}{rate:>10.0f}{cpu * 1000:>10.2f}"
            f"{cuts[49] * 1000:>12.1f}{cuts[98] * 1000:>10.1f}"
        )
        figures[served.name] = {
            "turns_per_second": rate,
            "cpu_seconds": cpu,
            "pickup_p50": cuts[49],
            "pickup_p99": cuts[98],
        }
    small, full = homes
    promises = {
        "idle gateway, MB": (idle_megabytes, MOST_MEGABYTES),
        "idle gateway, % of a core": (idle_percent, MOST_CPU_PERCENT),
        "CPU of a turn, full / small home": (median(full.cpu) / median(small.cpu), MOST_RATIO),
    }
    print()
    for name, (value, most) in promises.items():
        print(f"{name:<44}{value:>6.2f}  promised {most:<5}{'kept' if value <= most else 'BROKEN'}")
    record = {"figures": figures, "promises": {name: value for name, (value, _) in promises.items()}}
    (ROOT / "benchmarks" / "last-gateway.json").write_text(json.dumps(record, indent=2) + "\n")
    return all(value <= most for value, most in promises.values())


async def run(folder: Path) -> bool:
    async with Platform() as one, Platform() as other:
        homes = [Served("small", folder / "small", one, 100), Served("full", folder / "full", other, 2000)]
        await start(homes[0])
        idle_percent = await measure_idle(homes[0])
        idle_megabytes = homes[0].megabytes()
        await start(homes[1])
        for served in homes:
            await talk(served, 2)  # compiled, cached and connected
            served.pickups, served.cpu, served.seconds = [], [], 0.0
        for _ in range(ROUNDS):
            for served in homes:
                await talk(served, TURNS // ROUNDS)
        for served in homes:
            assert served.process is not None
            served.process.send_signal(signal.SIGTERM)
            await served.process.wait()
    return report(homes, idle_megabytes, idle_percent)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="nanobot-bench-") as name:
        sys.exit(0 if asyncio.run(run(Path(name))) else 1)
