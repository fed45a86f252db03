"""The kill loop (`make soak`): gateways die by kill -9 again and again; nothing accepted may be lost.

A loopback chat platform, a loopback model and a feeder live in this process. One or two real gateways
run beside it on one home, and one of them is killed every 0.3 to 2 seconds. Each message makes the model
ask for 0 to 6 tool calls: reads, and commands that append a line to a log and must never run twice.

    SOAK_KILLS=1000 make soak      # the long run
    python benchmarks/soak.py --gateways 2 --kills 150
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.model_server import chunk, read_request  # noqa: E402
from tests.peers.loopback_platform import Platform  # noqa: E402

PLUGIN = ROOT / "tests" / "peers" / "loopback_plugin"
INTERRUPTED = "Interrupted before its result was recorded"


@dataclass
class Soak:
    """One run: what was asked for, and what was seen."""

    gateways: int
    kills: int
    sessions: int
    messages: int
    seed: int
    home: Path
    takeovers: list[float] = field(default_factory=list)
    sent: dict[str, list[str]] = field(default_factory=lambda: collections.defaultdict(list))
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    killed: int = 0


def plan(text: str) -> list[list[dict[str, Any]]]:
    """The tool calls the model asks for in answer to `text`, step by step; the same every time."""
    chance = random.Random(text)
    calls = [chance.choice(("list_dir", "read_file", "exec")) for _ in range(chance.randint(0, 6))]
    steps = []
    while calls:
        size = chance.randint(1, 3)
        steps.append([call_body(text, name, f"{len(steps)}.{n}") for n, name in enumerate(calls[:size])])
        calls = calls[size:]
    return steps


def call_body(text: str, name: str, place: str) -> dict[str, Any]:
    key = f"{text}#{place}"
    arguments: dict[str, str] = {
        "list_dir": {"path": "."},
        "read_file": {"path": "AGENTS.md"},
        "exec": {"command": f"echo '{key}' >> effects.log"},
    }[name]
    return {"id": place.replace(".", "_"), "name": name, "arguments": json.dumps(arguments)}


def answer(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stream chunks that follow a conversation."""
    last_user = max(i for i, message in enumerate(messages) if message["role"] == "user")
    text = str(messages[last_user]["content"]).strip().splitlines()[-1]
    since = messages[last_user:]
    steps, done = plan(text), sum(bool(message.get("tool_calls")) for message in since)
    if done < len(steps):
        calls = [
            {
                "index": i,
                "id": call["id"],
                "type": "function",
                "function": {k: call[k] for k in ("name", "arguments")},
            }
            for i, call in enumerate(steps[done])
        ]
        return [chunk({"role": "assistant", "tool_calls": calls}, None), chunk({}, "tool_calls")]
    told = any(INTERRUPTED in str(message["content"]) for message in since)
    return [chunk({"content": f"re {text}" + (" (interrupted)" if told else "")}, None), chunk({}, "stop")]


async def serve_model(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            chunks = answer((await read_request(reader))["messages"])
            body = "".join(f"data: {json.dumps(item)}\n\n" for item in chunks) + "data: [DONE]\n\n"
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            writer.write((head + body).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the gateway was killed
    finally:
        writer.close()


def write_config(soak: Soak, platform_port: int, model_port: int) -> None:
    soak.home.mkdir(parents=True, exist_ok=True)
    config = {
        "providers": {"custom": {"apiKey": "none", "apiBase": f"http://127.0.0.1:{model_port}/v1"}},
        "agents": {"defaults": {"model": "soak", "maxConcurrentTurns": 8}},
        "channels": {"sendProgress": False, "loopback": {"enabled": True, "port": platform_port}},
        "heartbeat": {"enabled": False},
        "gateway": {"port": 0},
    }
    (soak.home / "config.json").write_text(json.dumps(config))


async def start_gateway(soak: Soak) -> asyncio.subprocess.Process:
    environment = os.environ | {"NANOBOT_HOME": str(soak.home), "PYTHONPATH": f"{PLUGIN}:{ROOT}"}
    log = (soak.home / "gateway.log").open("ab")
    with log:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nanobot", "gateway", "--port", "0", env=environment, stdout=log, stderr=log
        )


async def feed(soak: Soak, platform: Platform, session: int, stop: asyncio.Event) -> None:
    """One user: the agreed number of messages, and on until the last kill."""
    chance = random.Random(f"{soak.seed}-{session}")
    chat, number = f"c{session}", 0
    while number < soak.messages or not stop.is_set():
        number += 1
        text = f"{chat} m{number}"
        soak.sent[chat].append(text)
        platform.user_sends(chat, text)
        with contextlib.suppress(TimeoutError):  # some users write again before they are answered
            waiting = len(soak.sent[chat])
            await platform.wait_for(chat, waiting, seconds=chance.choice((0.5, 2.0, 20.0)))
        with contextlib.suppress(TimeoutError):
            await platform.wait_for(chat, len(soak.sent[chat]) - 20, seconds=60)


async def kill_again_and_again(soak: Soak, platform: Platform) -> None:
    chance = random.Random(soak.seed)
    while soak.killed < soak.kills:
        await asyncio.sleep(chance.uniform(0.3, 2.0))
        index = chance.randrange(soak.gateways)
        victim = soak.processes[index]
        with contextlib.suppress(ProcessLookupError):
            victim.send_signal(signal.SIGKILL)
        await victim.wait()
        soak.killed += 1
        died, seen = time.monotonic(), len(platform.shown)
        soak.processes[index] = await start_gateway(soak)
        asyncio.get_running_loop().create_task(note_takeover(soak, platform, died, seen))
        if soak.killed % 50 == 0:
            print(f"  {soak.killed} kills, {len(platform.shown)} replies", flush=True)


async def note_takeover(soak: Soak, platform: Platform, died: float, seen: int) -> None:
    with contextlib.suppress(TimeoutError):
        await platform.wait_until(lambda: len(platform.shown) > seen, 60)
        soak.takeovers.append(time.monotonic() - died)


async def run(soak: Soak) -> bool:
    async with Platform() as platform:
        model = await asyncio.start_server(serve_model, "127.0.0.1", 0, limit=64 * 2**20)
        write_config(soak, platform.port, model.sockets[0].getsockname()[1])
        started = time.monotonic()
        soak.processes = [await start_gateway(soak) for _ in range(soak.gateways)]
        stop = asyncio.Event()
        feeders = [asyncio.create_task(feed(soak, platform, n, stop)) for n in range(soak.sessions)]
        await kill_again_and_again(soak, platform)
        stop.set()
        await asyncio.gather(*feeders)
        with contextlib.suppress(TimeoutError):
            total = sum(map(len, soak.sent.values()))
            await platform.wait_until(
                lambda: len({m.text.split(" (")[0] for m in platform.shown}) >= total, 300
            )
        for process in soak.processes:
            process.terminate()
        await asyncio.gather(*(process.wait() for process in soak.processes))
        model.close()
        return report(soak, platform, time.monotonic() - started)


def report(soak: Soak, platform: Platform, seconds: float) -> bool:
    lost = reordered = duplicated = 0
    for chat, texts in soak.sent.items():
        replies = [text.removeprefix("re ").split(" (")[0] for text in platform.texts(chat)]
        lost += len(set(texts) - set(replies))
        duplicated += len(replies) - len(set(replies))
        first = list(dict.fromkeys(replies))
        reordered += first != [text for text in texts if text in set(first)]
    effects = collections.Counter((soak.home / "workspace" / "effects.log").read_text().splitlines())
    repeated = sum(count > 1 for count in effects.values())
    told = sum("(interrupted)" in message.text for message in platform.shown)
    takeovers = soak.takeovers or [0.0]
    rows = {
        "gateways / kills / seconds": f"{soak.gateways} / {soak.killed} / {seconds:.0f}",
        "accepted": sum(map(len, soak.sent.values())),
        "answered": len(platform.shown),
        "lost": lost,
        "reordered chats": reordered,
        "duplicated replies seen": duplicated,
        "sends repeated under one key": platform.repeated,
        "once-only effects": len(effects),
        "once-only effects repeated": repeated,
        "replies that report an interruption": told,
        "takeover p50 / max (s)": f"{statistics.median(takeovers):.2f} / {max(takeovers):.2f}",
    }
    for name, value in rows.items():
        print(f"{name:<38} {value}")
    return lost == reordered == duplicated == repeated == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--kills", type=int, default=int(os.environ.get("SOAK_KILLS", "60")))
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nanobot-soak-") as folder:
        soak = Soak(
            options.gateways,
            options.kills,
            options.sessions,
            options.messages,
            options.seed,
            Path(folder) / "home",
        )
        print(
            f"{soak.gateways} gateway(s), {soak.kills} kills, {soak.sessions} sessions × {soak.messages}",
            flush=True,
        )
        return 0 if asyncio.run(run(soak)) else 1


if __name__ == "__main__":
    sys.exit(main())
