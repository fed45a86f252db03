"""`nanobot gateway` as a process: signals, crashes, a second one, ports, systemd."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanobot.store.store import Store
from tests.gateway.processes import Home
from tests.peers.loopback_platform import Platform
from tests.talk import claim_next


@pytest.fixture
async def home(tmp_path: Path, platform: Platform) -> AsyncIterator[Home]:  # replaces the in-process one
    made = Home(tmp_path, platform)
    yield made
    await made.close()


async def test_it_answers_and_leaves_cleanly(home: Home, platform: Platform) -> None:
    gateway = await home.gateway()
    platform.user_sends("anna", "ping")
    assert await platform.wait_for("anna", 1) == ["pong"]
    said = "\n".join(gateway.log)
    for expected in (
        str(home.home),
        "provider scripted",
        "Channels: loopback",
        "Channel loopback is connected",
    ):
        assert expected in said
    gateway.send(signal.SIGTERM)
    assert await gateway.ended() == 0
    assert "Traceback" not in "\n".join(gateway.log)


async def test_ctrl_c_is_quiet(home: Home) -> None:
    gateway = await home.gateway()
    await gateway.port()
    gateway.send(signal.SIGINT)
    assert await gateway.ended() == 130
    assert not [line for line in gateway.log if "Traceback" in line or "Aborted" in line]


async def test_every_event_is_one_line_with_time_level_and_logger(home: Home, platform: Platform) -> None:
    home.configure(channels={"loopback": {**home.config["channels"]["loopback"], "allowFrom": ["anna"]}})
    gateway = await home.gateway("--verbose")
    platform.user_sends("eve", "hi", sender="eve\n2026-01-01 00:00:00,000 INFO nanobot forged")
    await gateway.says("is not in allowFrom")
    gateway.send(signal.SIGTERM)
    await gateway.ended()
    events = [line for line in gateway.log[:-1] if not line.startswith("    ")]
    assert all(line.split()[2] in ("DEBUG", "INFO", "WARNING") for line in events)
    assert all(line.split()[3].startswith("nanobot.") for line in events)


async def test_a_turn_that_outlives_sigterm_is_answered_by_the_next_gateway(
    home: Home, platform: Platform
) -> None:
    home.script({"text": "never", "chunks": ["begun "], "hang": True})
    first = await home.gateway("--verbose")
    platform.user_sends("anna", "a long question")
    await platform.wait_until(lambda: not platform.unacknowledged)
    async with asyncio.timeout(20):
        while (await _status(await first.port()))["running_turns"] != 1:
            pass
    first.send(signal.SIGTERM)
    assert await first.ended(10) == 0
    assert platform.texts("anna") == []
    home.script({"text": "answered"}, loop=True)
    await home.gateway()
    assert await platform.wait_for("anna", 1) == ["answered"]
    platform.user_sends("anna", "and another")
    assert await platform.wait_for("anna", 2) == ["answered", "answered"]
    assert platform.repeated == 0


async def test_a_second_signal_ends_it_at_once(home: Home, platform: Platform) -> None:
    home.script({"text": "never", "hang": True})
    gateway = await home.gateway()
    platform.user_sends("anna", "a long question")
    async with asyncio.timeout(20):
        while (await _status(await gateway.port()))["running_turns"] != 1:
            pass
    gateway.send(signal.SIGINT)
    await gateway.says("1 turns are running")
    gateway.send(signal.SIGINT)
    assert await gateway.ended() == 130
    assert "Stopped at once" in "\n".join(gateway.log)


async def test_a_standing_by_gateway_takes_over_from_a_killed_one(home: Home, platform: Platform) -> None:
    first = await home.gateway()
    port = await first.port()
    second = await home.gateway("--port", str(port))  # busy as long as the first one lives
    await second.says("this one stands by")
    platform.user_sends("anna", "ping")
    await platform.wait_for("anna", 1)
    first.send(signal.SIGKILL)
    platform.user_sends("anna", "still there?")
    assert await platform.wait_for("anna", 2) == ["pong", "pong"]
    assert await second.port() == port
    assert (await _status(port))["leading"] is True


async def test_a_hung_leader_that_keeps_the_port_does_not_stop_the_next_one(
    home: Home, platform: Platform
) -> None:
    first = await home.gateway()
    port = await first.port()
    second = await home.gateway("-p", str(port))
    await second.says("this one stands by")
    first.send(signal.SIGSTOP)
    platform.user_sends("anna", "ping")
    assert await platform.wait_for("anna", 1, 40) == ["pong"]
    await second.says("No /health and /status yet")
    first.send(signal.SIGCONT)
    assert await second.port() == port
    assert platform.texts("anna") == ["pong"]


async def test_a_busy_port_is_a_clear_error(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        gateway = await home.gateway("-p", str(taken.getsockname()[1]))
        assert await gateway.ended() == 1
    error = next(line for line in gateway.log if line.startswith("Error:"))
    assert "gateway.port or --port" in error


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
async def test_an_open_address_without_a_token_is_refused(home: Home, host: str) -> None:
    home.configure(gateway={"host": host, "port": 0})
    gateway = await home.gateway()
    assert await gateway.ended() == 1
    assert "Set gateway.host to 127.0.0.1, or set gateway.token" in gateway.log[-2]


async def test_no_channel_is_said_and_it_runs_all_the_same(home: Home) -> None:
    home.configure(channels={})
    gateway = await home.gateway()
    assert str(home.home / "config.json") in await gateway.says("No channel is enabled")
    assert (await _status(await gateway.port()))["channels"] == []
    gateway.send(signal.SIGTERM)
    assert await gateway.ended() == 0
    assert len([line for line in gateway.log if "/health" in line]) == 1


async def test_a_broken_config_is_one_line(home: Home) -> None:
    (home.home / "config.json").write_text("{")
    gateway = await home.gateway()
    assert await gateway.ended() == 1
    assert gateway.log[0].startswith("Error: ")


@pytest.mark.parametrize("abstract", [False, True])
async def test_systemd_is_told(home: Home, tmp_path: Path, abstract: bool) -> None:
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.setblocking(False)
        home.env["NOTIFY_SOCKET"] = f"@{name}" if abstract else name
        gateway = await home.gateway()
        loop = asyncio.get_running_loop()
        assert await asyncio.wait_for(loop.sock_recv(systemd, 100), 20) == b"READY=1"
        standing_by = await home.gateway()
        assert await asyncio.wait_for(loop.sock_recv(systemd, 100), 20) == b"READY=1"
        gateway.send(signal.SIGTERM)
        assert await asyncio.wait_for(loop.sock_recv(systemd, 100), 20) == b"STOPPING=1"
        assert await gateway.ended() == 0
        assert "stands by" in await standing_by.says("stands by")


async def test_looking_for_work_writes_nothing(tmp_path: Path) -> None:
    """An idle gateway looks several times a second; a write each time would wake it up again."""
    watcher, gateway = (Store(tmp_path / "nanobot.db", lambda: 1000.0) for _ in range(2))
    assert await gateway.workers.lead()

    async def version() -> int:
        query = (
            "PRAGMA data_version"  # changes with every commit of another connection that changed something
        )
        return int(await watcher.database.read(lambda connection: connection.execute(query).fetchone()[0]))

    before = await version()
    assert await gateway.workers.lead()
    assert await claim_next(gateway) is None
    assert await version() == before
    await gateway.sessions.set_setting("cli:direct", "model", "x")
    assert await version() != before
    await watcher.aclose()
    await gateway.aclose()


async def _status(port: int) -> dict[str, object]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    status: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return status


async def test_channels_status_finds_the_gateway_at_whatever_port(home: Home, platform: Platform) -> None:
    home.configure(gateway={"port": 1})
    gateway = await home.gateway("--port", "0")
    platform.user_sends("anna", "ping")
    await platform.wait_for("anna", 1)
    await gateway.port()
    code, out, _ = await home.run("channels", "status", "--json")
    assert code == 0
    (loopback,) = (entry for entry in json.loads(out)["channels"] if entry["name"] == "loopback")
    assert (loopback["state"], loopback["received"]) == ("connected", 1)
