"""The running gateway: how soon it is ready, what it costs idle, and what a turn costs in it.

Platform and model are on loopback in this process and answer at once, so only the gateway is measured. What
a turn costs is compared with a durable turn of the standard library (`bare_turns.py`), and with turns of
other chats in the same run.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from figures import Figure, ratio, typical  # noqa: E402
from loopback_gateway import start_gateway, write_config  # noqa: E402
from model_server import chunk, read_request  # noqa: E402

from nanobot.messages import Message, message_to_json  # noqa: E402
from tests.peers.loopback_platform import Platform  # noqa: E402

CHATS, TURNS = 50, 10
FULL_CHATS, OLD_CHATS, OLD_MESSAGES = 50, 10, 1000  # chats that a home is filled with, those that go on
IDLE_SECONDS = 12


@dataclass
class Gateway:
    """A gateway on a home, with the platform and the model it talks to."""

    home: Path
    platform: Platform
    process: asyncio.subprocess.Process
    ready: float  # seconds from the start until it led and listened
    sent: dict[str, float] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)  # seconds until the answer was shown

    def cpu(self) -> float:
        """CPU seconds until now, of all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def fine_cpu(self) -> float:
        """The same to the nanosecond, but only of the threads that live."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def switches(self) -> int:
        """How often a thread of it has begun to wait."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        lines = (line for task in tasks for line in (task / "status").read_text().splitlines())
        return sum(int(line.split()[1]) for line in lines if "voluntary_ctxt_switches" in line)

    def pss(self) -> float:
        """MiB, shared pages counted in part."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) / 1024

    def commits(self) -> int:
        """Transactions committed until now: iChange of the WAL index (https://sqlite.org/walformat.html)."""
        with (self.home / "nanobot.db-shm").open("rb") as index:
            return int(struct.unpack("=I", index.read(12)[8:])[0])

    def send(self, chat: str) -> None:
        self.sent[chat] = time.perf_counter()
        self.platform.user_sends(chat, f"What became of the ledger of {chat}?")


async def serve_model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer at once."""
    events = [chunk({"content": "It lies in the archive."}, None), chunk({}, "stop")]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
    try:
        while True:
            await read_request(reader)
            writer.write((head + body).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the gateway has gone
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def running(home: Path, **channels: object) -> AsyncIterator[Gateway]:
    """A gateway on `home`, until it has ended in good order."""
    server = await asyncio.start_server(serve_model, "127.0.0.1", 0, limit=2**26)
    async with server, Platform() as platform:
        write_config(home, platform.port, server.sockets[0].getsockname()[1], **channels)
        with listening(home / "ready") as ready:
            begun = time.perf_counter()
            process = await start_gateway(home, {"NOTIFY_SOCKET": str(home / "ready")})
            try:
                async with asyncio.timeout(30):
                    while await asyncio.get_running_loop().sock_recv(ready, 100) != b"READY=1":
                        pass
                yield Gateway(home, platform, process, time.perf_counter() - begun)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
                await process.wait()


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """The socket where a service says that it is ready (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.setblocking(False)
        ready.bind(str(path))
        yield ready


def fill(home: Path, chats: int, messages: int) -> None:
    """Give chats of a home so many messages each, all long since answered and consolidated."""
    bodies = [
        json.dumps(message_to_json(message))
        for message in (
            Message.user("What became of the harbour master's ledger?"),
            Message.assistant("It lies in the town archive, shelf 12."),
        )
    ]
    database = sqlite3.connect(home / "nanobot.db")
    for chat in range(chats):
        key, first = f"loopback:old{chat}", chat * messages
        conversation = database.execute(
            "INSERT INTO conversations (session, title, created_at, updated_at) VALUES (?, 'old', 1, 1)",
            (key,),
        ).lastrowid
        database.execute(
            "INSERT INTO sessions (key, created_at, updated_at, last_seq, consolidated_seq, conversation)"
            " VALUES (?, 1, 1, ?, ?, ?)",
            (key, messages, messages, conversation),
        )
        database.executemany(
            "INSERT INTO turns (id, session, origin, state, worker, first_seq, started_at, finished_at,"
            " conversation) VALUES (?, ?, 'inbox', 'done', 1, ?, 1, 1, ?)",
            [(first + n, key, n, conversation) for n in range(1, messages + 1)],
        )
        database.executemany(
            "INSERT INTO messages (session, seq, turn, created_at, body, conversation)"
            " VALUES (?, ?, ?, 1, ?, ?)",
            [(key, n, first + n, bodies[n % 2 == 0], conversation) for n in range(1, messages + 1)],
        )
    database.commit()
    database.close()


async def talk(gateway: Gateway, chats: list[str], turns: int) -> float:
    """Let every chat have so many turns, each as soon as the one before is answered. CPU seconds a turn."""
    cpu, answered = gateway.cpu(), collections.Counter[str]()
    shown = gateway.platform.shown
    seen = len(shown)
    for chat in chats:
        gateway.send(chat)
    while sum(answered.values()) < len(chats) * turns:
        await gateway.platform.wait_until(lambda: len(shown) > seen, 60)  # noqa: B023  called at once
        fresh = shown[seen:]
        seen += len(fresh)
        for message in fresh:
            gateway.waits.append(time.perf_counter() - gateway.sent[message.chat])
            answered[message.chat] += 1
            if answered[message.chat] < turns:
                gateway.send(message.chat)
    return (gateway.cpu() - cpu) / (len(chats) * turns)


async def settled(gateway: Gateway) -> None:
    """Wait until it does nothing any more, such as filling the search index: minutes on a busy machine."""
    for _ in range(600):
        before = gateway.fine_cpu()
        await asyncio.sleep(0.5)
        if gateway.fine_cpu() - before < 0.005:
            return


async def run_script(*arguments: str) -> tuple[float, str]:
    """Seconds and output of one of the scripts beside this one."""
    begun = time.perf_counter()
    command = [sys.executable, str(Path(__file__).with_name(arguments[0])), *arguments[1:]]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return time.perf_counter() - begun, output.decode()


async def measure_idle(folder: Path, base_url: str, rounds: int) -> AsyncIterator[Figure]:
    """Start and idleness of a gateway with a channel, and with Telegram where that is installed."""
    begins, scripts = [], []
    for number in range(rounds):
        scripts.append((await run_script("minimal_client.py", base_url, "hello"))[0])
        async with running(folder / f"start{number}") as gateway:
            begins.append(gateway.ready)
    yield ratio("gateway ready / minimal script", typical(begins), typical(scripts), 1.5)
    async with running(folder / "idle") as gateway:
        await settled(gateway)
        cpu, switches = gateway.fine_cpu(), gateway.switches()
        await asyncio.sleep(IDLE_SECONDS)
        switches = gateway.switches() - switches
        yield Figure("idle gateway: memory (PSS)", gateway.pss(), "MiB", 30)
        yield Figure("idle gateway: CPU in 30 s", (gateway.fine_cpu() - cpu) / IDLE_SECONDS * 30e3, "ms", 30)
        yield Figure("idle gateway: context switches a second", switches / IDLE_SECONDS, "", 8)
    with contextlib.suppress(ImportError):
        import telegram  # noqa: F401

        from tests.peers.telegram_api import TOKEN, TelegramServer

        async with TelegramServer() as server:
            section = {"enabled": True, "token": TOKEN, "apiBase": server.url}
            begins, scripts = [], []
            for number in range(rounds):
                scripts.append((await run_script("minimal_client.py", base_url, "hello"))[0])
                async with running(folder / f"telegram{number}", telegram=section) as gateway:
                    begins.append(gateway.ready)
                    await settled(gateway)
                    memory = gateway.pss()
        yield ratio("gateway with Telegram ready / minimal script", typical(begins), typical(scripts), 2.1)
        yield Figure("idle gateway with Telegram: memory (PSS)", memory, "MiB", 42)


async def measure_growth(folder: Path, rounds: int) -> AsyncIterator[Figure]:
    """What a turn costs in an old chat, and in a home with many of them."""
    async with running(folder / "full") as full, running(folder / "small") as small:
        fill(full.home, FULL_CHATS, OLD_MESSAGES)
        await talk(full, [f"old{n}" for n in range(OLD_CHATS)], 2)  # now the search index is filled
        await settled(full)
        await talk(small, [f"warm{n}" for n in range(OLD_CHATS)], 2)
        old, fresh, empty = [], [], []
        for number in range(rounds):
            chats = [f"new{number}-{n}" for n in range(OLD_CHATS)]
            old.append(await talk(full, [f"old{n}" for n in range(OLD_CHATS)], TURNS))
            fresh.append(await talk(full, chats, TURNS))
            empty.append(await talk(small, chats, TURNS))
        note = f"{typical(old) * 1000:.1f} / {typical(fresh) * 1000:.1f} ms"
        yield ratio(
            "turn behind 1,000 messages / in a fresh chat, CPU", typical(old), typical(fresh), 1.3, note
        )
        name = f"turn in a home of {FULL_CHATS * OLD_MESSAGES:,} messages / in a new one, CPU"
        yield ratio(name, typical(fresh), typical(empty), 1.3)


async def measure_turns(folder: Path, base_url: str, rounds: int) -> AsyncIterator[Figure]:
    """What a turn costs among many chats, and alone."""
    async with running(folder / "turns") as gateway:
        await talk(gateway, [f"warm{n}" for n in range(CHATS)], 2)
        gateway.waits.clear()
        many, bare, commits, seconds = [], [], [], []
        for number in range(rounds):
            commits_before, begun = gateway.commits(), time.perf_counter()
            many.append(await talk(gateway, [f"many{number}-{n}" for n in range(CHATS)], TURNS))
            seconds.append(time.perf_counter() - begun)
            commits.append((gateway.commits() - commits_before) / (CHATS * TURNS))
            database = str(folder / f"bare{number}.db")
            _, printed = await run_script("bare_turns.py", base_url, str(CHATS), str(TURNS), database)
            bare.append(json.loads(printed)["cpu"])
        note = f"{typical(many) * 1000:.2f} / {typical(bare) * 1000:.2f} ms"
        yield ratio("turn among 50 chats / bare durable turn, CPU", typical(many), typical(bare), 18, note)
        yield Figure("turns a second with 50 chats", CHATS * TURNS / min(seconds))
        yield Figure("p99 of an answer with 50 chats", quantiles(gateway.waits, n=100)[98] * 1000, "ms")
        yield Figure("commits of a turn among 50 chats", median(commits), "", 0.9)
        await talk(gateway, ["alone"], 2)  # the first turn of a chat stores more
        await settled(gateway)
        before = gateway.commits()
        await talk(gateway, ["alone"], TURNS)
        await settled(gateway)
        yield Figure("commits of a turn alone", (gateway.commits() - before) / TURNS)
        yield await syncs_alone(gateway)


async def syncs_alone(gateway: Gateway) -> Figure:
    """fsync and fdatasync of a turn while nothing else is done, counted by strace where there is one."""
    name = "fsyncs of a turn alone"
    if shutil.which("strace") is None:
        return Figure(name, None, note="needs strace")
    command = ["strace", "-f", "-q", "-e", "trace=fsync,fdatasync", "-p", str(gateway.process.pid)]
    tracer = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert tracer.stderr is not None
    await asyncio.sleep(1)  # it says nothing when it has attached
    await talk(gateway, ["alone"], TURNS)
    with contextlib.suppress(ProcessLookupError):
        tracer.send_signal(signal.SIGINT)
    lines = (await tracer.stderr.read()).decode().splitlines()
    await tracer.wait()
    calls = sum("sync(" in line and "resumed" not in line for line in lines)
    if not calls:
        return Figure(name, None, note="strace may not attach here")
    return Figure(name, calls // TURNS, "", 4)  # a checkpoint now and then is not what a turn costs


async def measure(folder: Path, base_url: str, rounds: int) -> list[Figure]:
    """All figures of the gateway."""
    figures = [figure async for figure in measure_idle(folder, base_url, rounds)]
    figures += [figure async for figure in measure_turns(folder, base_url, rounds)]
    return figures + [figure async for figure in measure_growth(folder, rounds)]
