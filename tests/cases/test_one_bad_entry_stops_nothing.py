"""A wrong entry in the config, or variables that are not set: each is off alone, all else works."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.processes import Home
from tests.mcp.serving import FAULTS
from tests.peers.loopback_platform import Platform

GOOD = {"command": sys.executable, "args": [str(FAULTS)]}


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Platform() as running:
        yield running


@pytest.fixture
async def home(tmp_path: Path, platform: Platform) -> AsyncIterator[Home]:
    made = Home(tmp_path, platform)
    made.config["channels"] |= {
        "telegram": {"enabled": True, "token": "${BOT_TOKEN}", "allowFrom": ["7"]},
        "discord": {"enabled": True, "token": "x", "allowFrom": [True]},
    }
    made.configure(
        gateway={"port": 0, "token": "${GATEWAY_TOKEN}"},
        providers={"groq": {"apiKey": "${GROQ}"}, "openai": 5},
        tools={
            "mcpServers": {"good": GOOD, "bad": {**GOOD, "env": {"T": "${MISSING}"}}, "odd": {"args": "x"}}
        },
    )
    yield made
    await made.close()


async def test_a_gateway_without_the_variables_of_the_shell_answers(home: Home, platform: Platform) -> None:
    gateway = await home.gateway()
    await gateway.says("Channels: loopback")
    platform.user_sends("anna", "ping")
    await platform.wait_for("anna", 1)
    await gateway.says("MCP server good is ready")
    for name in ("BOT_TOKEN", "GATEWAY_TOKEN", "GROQ", "MISSING"):
        [said] = [line for line in gateway.log if f"variable {name} is not set" in line]
        assert " off" in said


async def test_each_is_named_once_where_the_owner_looks(home: Home) -> None:
    code, out, _ = await home.run("status")
    assert code == 0
    for fault in (
        "channels.telegram.token: the environment variable BOT_TOKEN is not set, so this channel is off",
        "channels.discord.allowFrom.0: expected a valid string, so this channel is off",
        "providers.groq.apiKey: the environment variable GROQ is not set, so this provider is off",
        "providers.openai: expected a valid dictionary, so this provider is off",
        "tools.mcpServers.bad.env.T: the environment variable MISSING is not set, so this server is off",
        "gateway.token: the environment variable GATEWAY_TOKEN is not set, so /health and /status are off",
    ):
        assert out.count(fault) == 1, out
    assert "good, bad (off), odd (off)" in out
    code, out, _ = await home.run("mcp", "list")
    lines = dict(line.split(": ", 1) for line in out.splitlines())
    assert lines["good"].startswith("ready at ")
    assert lines["bad"].endswith("tools.mcpServers.bad.env.T: the environment variable MISSING is not set")
    assert lines["odd"].endswith("tools.mcpServers.odd.args: expected a valid list")
    code, out, _ = await home.run("channels", "status", "--json")
    problems = {channel["name"]: channel["problem"] for channel in json.loads(out)["channels"]}
    assert "BOT_TOKEN is not set" in problems["telegram"]
    assert "allowFrom.0: expected a valid string" in problems["discord"]


async def test_a_private_address_that_is_missing_is_not_replaced_by_the_public_one(home: Home) -> None:
    home.configure(
        providers={"openai": {"apiBase": "${LAN}", "apiKey": "k"}},
        agents={"defaults": {"model": "openai/gpt-5"}},
    )
    home.env["OPENAI_API_KEY"] = "k"
    code, _, err = await home.run("agent", "-m", "hi")
    assert code == 1
    assert "providers.openai.apiBase: the environment variable LAN is not set, so this provider is off" in err
