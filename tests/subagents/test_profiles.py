"""What a subagent is given: tools, skills, model, limits; and what it never gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanobot.agent.tools import Tool
from nanobot.agent.tools.registry import Toolbox
from nanobot.app import App, open_app
from nanobot.config.schema import Config
from nanobot.errors import UsageError
from nanobot.messages import Address, InboundMessage, TurnContext
from nanobot.subagents.orders import SubagentRole, Subagents
from tests.agent.harness import Act
from tests.talk import claim_own

SECONDS = 1800.0  # for the whole family


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Skills:
    def names(self) -> list[str]:
        return ["summarize", "weather"]

    def text(self, name: str) -> str:
        return f"How to {name}."


def config_with(profiles: dict[str, Any], **sections: Any) -> Config:
    defaults = {"subagentMaxIterations": 7}
    return Config.model_validate({"agents": {"subagentProfiles": profiles, "defaults": defaults}, **sections})


async def role_of(app: App, profile: str, more: list[Tool] | None = None) -> SubagentRole:
    """The role of a subagent whose turn belongs to a turn that has just begun."""
    claim = await claim_own(app.store, "cli:direct")
    assert claim is not None
    subagents = Subagents(
        app.config, app.store, app.hub, Skills(), lambda names: [(name, f"[{name}]") for name in names]
    )
    order = _order(claim.turn_id)
    await app.store.subagents.add(order, "a label", profile)
    turn = TurnContext("2", 2, order)
    tools = [app.tools.get(name) for name in app.tools.by_name]
    try:
        return await subagents.role(turn, Toolbox([*tools, *(more or [])]).for_subagents, SECONDS)
    finally:
        await app.store.turns.finish(claim, "done")


def names_of(role: SubagentRole) -> tuple[str, ...]:
    return tuple(role.tools)


def _order(family: int) -> InboundMessage:
    """Of a turn in cli:direct, under an id of its own."""
    key = f"x{family}"
    address = Address("cli:direct", "cli", "direct")
    return InboundMessage(
        *("subagent", key, "cli:direct", "do it", key, f"subagent:{key}"),
        source="order",
        reply_to=address,
        family=family,
    )


def acts(*names: str) -> list[Tool]:
    return [Act(name, lambda: "done") for name in names]


async def test_every_field_of_a_profile_counts() -> None:
    profile = {"tools": ["read_file", "exec"], "skills": ["weather"], "model": "m", "maxIterations": 3}
    async with open_app(config_with({"coder": profile})) as app:
        role = await role_of(app, "coder")
    assert names_of(role) == ("read_file", "exec")
    assert "You have 3 model calls at most." in role.prompt
    assert role.prompt.endswith("[AGENTS.md]\n\n[TOOLS.md]\n\n[skill weather]\nHow to weather.")
    assert (role.model, role.calls) == ("m", 3)
    assert "subagentProfiles.coder.maxIterations" in role.advice
    assert 1700 < role.seconds <= 1800


async def test_without_profile_all_tools_but_those_of_the_owner_and_mcp() -> None:
    async with open_app(config_with({})) as app:
        role = await role_of(app, "", acts("weather", "mcp_files_read"))
    assert {"read_file", "exec", "web_fetch", "weather"} <= {*names_of(role)}
    assert not {"message", "cron", "spawn", "mcp_files_read"} & {*names_of(role)}
    assert (role.model, role.calls) == ("", 7)
    assert "subagentMaxIterations" in role.advice


async def test_a_profile_without_a_limit_follows_the_default() -> None:
    async with open_app(config_with({"plain": {}})) as app:
        assert (await role_of(app, "plain")).calls == 7


async def test_plugin_and_mcp_tools_are_valid_when_they_are_named() -> None:
    config = config_with(
        {"p": {"tools": ["save_note", "mcp_files_read", "mcp_my_srv_go"]}},
        tools={"mcpServers": {"files": {"command": "x"}, "my srv": {"command": "y"}}},
    )
    async with open_app(config) as app:
        role = await role_of(app, "p", acts("save_note", "mcp_files_read"))
        assert {*names_of(role)} == {"save_note", "mcp_files_read"}
        with pytest.raises(UsageError, match="'mcp_files_read'"):  # that server has no such tool
            await role_of(app, "p", acts("save_note", "mcp_files_write"))


async def test_a_server_may_have_the_beginning_of_another_one_s_name() -> None:
    servers = {"git": {"command": "x"}, "git_hub": {"command": "y"}}
    config = config_with({"p": {"tools": ["mcp_git_hub_go"]}}, tools={"mcpServers": servers})
    async with open_app(config) as app:
        assert names_of(await role_of(app, "p", acts("mcp_git_log"))) == ()  # git_hub is not connected


async def test_exec_in_a_profile_is_gated() -> None:
    config = config_with({"coder": {"tools": ["exec", "read_file"]}}, tools={"exec": {"enabled": False}})
    async with open_app(config) as app:
        assert names_of(await role_of(app, "coder")) == ("read_file",)


@pytest.mark.parametrize(
    ("profile", "asked", "complaint"),
    [
        ({"tools": ["web_serch"]}, "p", "the tool 'web_serch'.* Tools: read_file, .*web_search"),
        ({"tools": ["message"]}, "p", "the tool 'message', which subagents do not have"),
        ({"tools": ["cron"]}, "p", "the tool 'cron', which subagents do not have"),
        ({"tools": ["spawn"]}, "p", "the tool 'spawn', which subagents do not have"),
        ({"tools": ["mcp_nosuch_x"]}, "p", "the tool 'mcp_nosuch_x'"),
        ({"skills": ["wether"]}, "p", "the skill 'wether', .* Skills: summarize, weather"),
        ({}, "q", "no subagent profile 'q'. Profiles: p."),
    ],
)
async def test_a_mistake_is_named_with_what_is_valid(
    profile: dict[str, Any], asked: str, complaint: str
) -> None:
    config = config_with({"p": profile})
    async with open_app(config) as app:
        with pytest.raises(UsageError, match=complaint):
            await role_of(app, asked)
        faults = list(
            Subagents(
                config, app.store, app.hub, Skills(), lambda names: [(name, f"[{name}]") for name in names]
            ).faults(app.tools.for_subagents)
        )
    assert len(faults) == (asked == "p")


async def test_the_definition_is_short() -> None:
    async with open_app(Config()) as app:
        tool = app.tools.get("spawn")
        told = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    assert len(json.dumps({"type": "function", "function": told})) <= 450
