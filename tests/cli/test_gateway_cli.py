"""`nanobot channels`, `outbox` and `status` beside a gateway, and without one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.processes import GatewayProcess, Home
from tests.peers.loopback_platform import Platform

TOKEN = "s3cret-token"


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Platform() as running:
        yield running


@pytest.fixture
async def home(tmp_path: Path, platform: Platform) -> AsyncIterator[Home]:
    made = Home(tmp_path, platform)
    made.configure(gateway={"port": 0, "token": TOKEN})
    yield made
    await made.close()


async def start(home: Home) -> GatewayProcess:
    """A gateway whose port is the one in the config."""
    gateway = await home.gateway()
    home.configure(gateway={"port": await gateway.port(), "token": TOKEN})
    return gateway


async def test_channels_without_a_gateway(home: Home) -> None:
    code, out, _ = await home.run("channels", "status")
    assert code == 0
    assert "Gateway: not running. Start it with `nanobot gateway`." in out
    assert "loopback: enabled" in out
    assert "telegram: not enabled" in out


async def test_channels_of_a_running_gateway(home: Home, platform: Platform) -> None:
    home.config["channels"]["loopback"]["allowFrom"] = ["anna"]
    home.configure()
    gateway = await start(home)
    platform.user_sends("eve", "let me in")
    platform.user_sends("anna", "ping")
    await platform.wait_for("anna", 1)
    code, out, _ = await home.run("channels", "status")
    assert code == 0
    assert f"process {gateway.process.pid} runs" in out
    assert "loopback: connected since 2" in out
    assert ", 1 received, 1 refused, " in out
    code, out, _ = await home.run("channels", "status", "--json")
    report = json.loads(out)
    loopback = next(channel for channel in report["channels"] if channel["name"] == "loopback")
    assert loopback["enabled"] is True
    assert loopback["state"] == "connected"
    assert loopback["connected_since"] > 0
    assert report["gateway_pid"] == gateway.process.pid
    assert TOKEN not in out + "\n".join(gateway.log)


async def test_channels_find_a_gateway_that_was_started_on_another_port(home: Home) -> None:
    gateway = await home.gateway()
    await gateway.port()
    code, out, _ = await home.run("channels", "status")
    assert code == 0
    assert f"process {gateway.process.pid} runs." in out
    assert "loopback: " in out


async def test_a_wrong_token_is_refused(home: Home) -> None:
    await start(home)
    home.config["gateway"]["token"] = TOKEN[:-1]
    home.configure()
    _, out, _ = await home.run("channels", "status")
    assert "refused to tell (401 Unauthorized)" in out


async def test_channels_that_cannot_work_say_why(home: Home) -> None:
    home.configure(channels={"feishu": {"enabled": True}})
    code, out, _ = await home.run("channels", "status")
    assert code == 0
    assert "feishu: enabled. Last error: feishu is not supported by this version yet" in out


async def test_only_a_channel_that_works_is_said_to_answer_everyone(home: Home) -> None:
    home.config["channels"] |= {"feishu": {"enabled": True}}
    home.config["channels"]["loopback"]["allowFrom"] = []
    home.configure()
    gateway = await home.gateway()
    await gateway.says("feishu is not supported")
    await gateway.says("Channel loopback answers everyone: channels.loopback.allowFrom is empty.")
    await gateway.says("Channel loopback is connected")
    assert "feishu answers everyone" not in "\n".join(gateway.log)


async def test_a_missing_library_is_named_with_the_command(home: Home) -> None:
    broken = home.folder / "broken"
    (broken / "telegram").mkdir(parents=True)
    (broken / "telegram" / "__init__.py").write_text("raise ImportError('No module named telegram')")
    home.env["PYTHONPATH"] = f"{broken}:{home.env['PYTHONPATH']}"
    home.configure(channels={"telegram": {"enabled": True, "token": "1:x", "allowFrom": ["1"]}})
    _, out, _ = await home.run("channels", "status")
    assert 'pip install "nanobot-ai[telegram]"' in out


async def test_whatsapp_login_says_that_it_is_not_there(home: Home) -> None:
    code, _, err = await home.run("channels", "login")
    assert code == 1
    assert "WhatsApp is not supported by this version yet" in err
    assert "What works: Telegram" in err


async def test_parked_deliveries_are_shown_and_tried_again(home: Home, platform: Platform) -> None:
    platform.fail = lambda shown: "permanent: the chat is gone"
    gateway = await start(home)
    platform.user_sends("anna", "ping")
    await gateway.says("; parked")
    _, out, _ = await home.run("outbox", "list")
    assert "given up  loopback:anna  'pong', failed 1 times; last error: permanent: the chat is gone" in out
    _, out, _ = await home.run("outbox", "list", "--json")
    assert [entry["state"] for entry in json.loads(out)] == ["parked"]
    _, out, _ = await home.run("status")
    assert f"runs (process {gateway.process.pid})" in out
    assert "0 waiting, 1 given up" in out
    assert "Last error: permanent: the chat is gone. Try again: nanobot outbox retry" in out
    platform.fail = lambda shown: None
    code, out, _ = await home.run("outbox", "retry")
    assert (code, out) == (0, "To be delivered now: 1.\n")
    assert await platform.wait_for("anna", 1) == ["pong"]


async def test_without_anything_to_do(home: Home) -> None:
    assert await home.run("outbox", "list") == (0, "Everything was delivered.\n", "")
    assert await home.run("outbox", "list", "--json") == (0, "[]\n", "")
    assert await home.run("outbox", "retry") == (0, "Nothing was given up.\n", "")
    _, out, _ = await home.run("status", "--json")
    storage = json.loads(out)["storage"]
    assert storage["gateway_pid"] is None
    assert storage["outbox"] == {"pending": 0, "parked": 0, "error": ""}
    assert not (home.home / "nanobot.db").exists()


async def test_the_gateway_group_has_help_and_refuses_unknown_commands(home: Home) -> None:
    code, out, _ = await home.run("gateway", "--help")
    assert code == 0
    for word in ("--port", "-p", "--verbose", "-v", "install", "uninstall"):
        assert word in out
    code, _, err = await home.run("gateway", "instal")
    assert code == 2
    assert "instal" in err
