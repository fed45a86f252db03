"""Entries of MCP servers as other programs write them, and whole files of theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanobot.config.loader import LoadedConfig, load_config


def load(folder: Path, data: object, **env: str) -> LoadedConfig:
    file = folder / "config.json"
    file.write_text(json.dumps(data))
    return load_config(file, env)


@pytest.mark.parametrize(
    ("entry", "ours"),
    [
        (
            {"type": "stdio", "command": "npx", "args": ["-y"], "env": None},
            {"command": "npx", "args": ["-y"]},
        ),
        ({"command": "x", "env": {"A": "${env:KEY}"}, "envFile": "/a/.env"}, {"env": {"A": "k"}}),
        ({"type": "http", "url": "https://a.example", "headers": {"A": "${KEY}"}}, {"headers": {"A": "k"}}),
        (
            {
                "url": "https://a.example",
                "bearer_token_env_var": "KEY",
                "http_headers": {"X": "1"},
                "env_http_headers": {"Y": "KEY"},
                "startup_timeout_sec": 20,
                "tool_timeout_sec": 90.5,
                "enabled_tools": ["a"],
                "disabled_tools": ["b"],
            },
            {
                "headers": {"Authorization": "Bearer k", "X": "1", "Y": "k"},
                "startup_timeout": 20,
                "tool_timeout": 90.5,
                "enabled_tools": ["a"],
                "disabled_tools": ["b"],
            },
        ),
        (
            {"command": "x", "env_vars": ["KEY"], "env": {"B": "b"}, "cwd": "/tmp"},
            {"env": {"KEY": "k", "B": "b"}},
        ),
        ({"serverUrl": "https://a.example/sse", "alwaysAllow": ["t"]}, {"url": "https://a.example/sse"}),
        ({"httpUrl": "https://a.example/mcp", "includeTools": ["a"]}, {"enabled_tools": ["a"]}),
        ({"command": "x", "env": {"A": "$KEY", "B": "pa$KEY"}}, {"env": {"A": "k", "B": "pa$KEY"}}),
        (
            {"url": "x", "headers": {"A": "Bearer $KEY", "B": "${KEY}"}},
            {"headers": {"A": "Bearer k", "B": "k"}},
        ),
        ({"url": "x", "transportType": "sse"}, {"type": "sse"}),
        ({"command": "x", "excludeTools": ["a"]}, {"disabled_tools": ["a"]}),
        ({"type": "local", "command": ["npx", "-y", "z"], "environment": {"A": "1"}}, {"args": ["-y", "z"]}),
        ({"type": "local", "command": "x", "tools": ["a"]}, {"enabled_tools": ["a"]}),
        ({"command": "x", "env": {"A": "${NO}"}, "disabled": True}, {"enabled": False}),
        ({"command": "x", "env": {"A": "${NO}"}, "isActive": False}, {"enabled": False}),
        ({"command": "x", "args": ["-c", "echo $${KEY}"]}, {"args": ["-c", "echo ${KEY}"]}),
    ],
)
def test_an_entry_of_another_program_is_understood(
    tmp_path: Path, entry: dict[str, Any], ours: dict[str, Any]
) -> None:
    loaded = load(tmp_path, {"tools": {"mcpServers": {"a": entry}}}, KEY="k")
    assert loaded.warnings == ()
    server = loaded.config.tools.mcp_servers["a"]
    assert server.fault == ""
    assert {name: getattr(server, name) for name in ours} == ours


A, B = {"command": "a"}, {"url": "https://b.example"}
DESKTOP = {"mcpServers": {"a": A, "b": B}, "globalShortcut": ""}


@pytest.mark.parametrize(
    "data",
    [
        {"tools": {"mcpServers": {"a": A, "b": B}}},
        DESKTOP,
        {"mcp_servers": {"a": A}, "tools": {"mcpServers": {"b": B}}},
        {"tools": DESKTOP},
        {"tools": {"mcpServers": {"b": B, "mcpServers": {"a": A}}}},
        {"servers": {"a": A, "b": B}},
        {"tools": {"servers": {"a": A}, "mcp_servers": {"b": B}}},
        {"mcp": {"servers": {"a": A, "b": B}, "inputs": []}},
        {"tools": {"mcpServers": {"servers": {"a": A, "b": B}, "inputs": [{"id": "x"}]}}},
    ],
)
def test_a_whole_file_of_another_program_is_understood_wherever_it_is_pasted(
    tmp_path: Path, data: Any
) -> None:
    loaded = load(tmp_path, data)
    assert {*loaded.config.tools.mcp_servers} == {"a", "b"}
    assert all(server.usable for server in loaded.config.tools.mcp_servers.values())
    assert all("globalShortcut: unknown key" in warning for warning in loaded.warnings)


def test_a_server_may_have_the_name_of_such_a_place(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"tools": {"mcpServers": {"mcp": A, "servers": B}}})
    assert {*loaded.config.tools.mcp_servers} == {"mcp", "servers"}
    assert loaded.warnings == ()


def test_a_server_in_two_places_is_named(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"mcpServers": {"a": B}, "tools": {"mcpServers": {"a": A}}})
    assert loaded.config.tools.mcp_servers["a"].command == "a"
    assert loaded.warnings == ("tools.mcpServers.a: given in two places, the first one counts",)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("npx -y x", "expected a valid dictionary"),
        ({"command": 5, "args": "x"}, ".args: expected a valid list"),
        (
            {"command": "x", "env": {"A": "${input:key}"}},
            "${input:key} is filled in by VS Code alone; write ${NAME}",
        ),
        ({"command": "x", "env": {"A": {"b": 1}}}, ".env.A: expected a valid string"),
        ({"command": "x", "toolTimeout": -1}, ".toolTimeout: expected greater than 0"),
        ({"url": "x", "bearerTokenEnvVar": "NO"}, "the environment variable NO is not set"),
        (None, "expected a valid dictionary"),
    ],
)
def test_a_wrong_entry_is_off_alone_and_named(tmp_path: Path, entry: Any, named: str) -> None:
    loaded = load(tmp_path, {"tools": {"mcpServers": {"bad": entry, "good": A}}})
    assert {name: server.usable for name, server in loaded.config.tools.mcp_servers.items()} == {
        "bad": False,
        "good": True,
    }
    [warning] = loaded.warnings
    assert warning.startswith("tools.mcpServers.bad")
    assert named in warning
    assert warning.endswith(", so this server is off")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("timeout", 60000, "write toolTimeout, in seconds"),
        ("startup_timeout_ms", 60000, "write startupTimeout, in seconds"),
        ("auth", {"CLIENT_ID": "x"}, "nanobot mcp login"),
        ("oauth", {}, "nanobot mcp login"),
        ("disabledTool", [], "did you mean disabledTools?"),
        ("unknownToUs", [], "ignored"),
    ],
)
def test_a_key_that_is_not_ours_is_never_taken_for_its_opposite(
    tmp_path: Path, key: str, value: Any, hint: str
) -> None:
    loaded = load(tmp_path, {"tools": {"mcpServers": {"a": {"command": "x", key: value}}}})
    assert loaded.config.tools.mcp_servers["a"].usable
    [warning] = loaded.warnings
    assert hint in warning
