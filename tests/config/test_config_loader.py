"""Loading config.json: precedence, spellings, older keys, and what is said about mistakes."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.config.channels import PLANNED
from nanobot.config.loader import LoadedConfig, load_config
from nanobot.config.mcp_servers import INPUTS
from nanobot.config.schema import Config
from nanobot.errors import ConfigError
from tests.config.keys import key_paths, written

LEGACY = Path(__file__).parent / "legacy_config.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def load(file: Path, data: object, **env: str) -> LoadedConfig:
    file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    file.chmod(0o600)
    return load_config(file, env)


def split(loaded: LoadedConfig) -> tuple[Config, dict[str, str]]:
    """The configuration, and the warnings by the path they begin with."""
    parts = [warning.partition(": ") for warning in loaded.warnings]
    return loaded.config, {path: words for path, _, words in parts}


def refusal(file: Path, data: object, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(file, data, **env)
    return str(caught.value)


def test_a_missing_file_means_defaults(file: Path) -> None:
    loaded = load_config(file, {})
    assert (written(loaded.config), loaded.warnings) == (written(Config()), ())
    assert not file.exists()


def test_default_path_is_in_nanobots_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    monkeypatch.setenv("NANOBOT_GATEWAY__PORT", "5")
    (tmp_path / "config.json").write_text('{"gateway": {"host": "::1", "port": 4}}')
    gateway = load_config().config.gateway
    assert (gateway.host, gateway.port) == ("::1", 5)


def test_a_users_existing_file_loads_unchanged_with_one_note(file: Path) -> None:
    text = LEGACY.read_text(encoding="utf-8")
    loaded = load(file, text)
    config = loaded.config
    sections = json.loads(text)["channels"]
    missing = [name for name in sections if name in PLANNED]
    assert len(missing) == len(PLANNED)
    note = ", ".join(f"channels.{name}" for name in missing)
    assert loaded.warnings == (f"{note}: not in this version yet, so kept and not used",)
    assert {name: config.channels.model_extra[name] for name in missing} == {
        name: sections[name] for name in missing
    }
    assert file.read_text(encoding="utf-8") == text
    assert config.agents.subagent_profiles["note-taker"].tools == ["save_note"]
    assert config.channels.model_extra["telegram"].allow_from == ["YOUR_USER_ID", "123456789"]
    assert config.providers.openrouter.extra_headers == {"X-Title": "nanobot"}
    assert config.tools.restrict_to_workspace, "moved up from tools.exec"
    assert config.tools.mcp_servers["filesystem"].env == {"LOG_LEVEL": "debug"}
    assert config.tools.mcp_servers["my-remote-mcp"].tool_timeout == 120
    clock = config.tools.mcp_servers["clock"]
    assert (clock.enabled, clock.type, clock.args) == (False, "stdio", ["mcp-server-time", "8080"])


def test_the_fixture_names_every_key_older_releases_had() -> None:
    new = {"gateway.token", "tools.exec.env", "tools.policy", "tools.exec.sandbox", "tools.exec.network"}
    new |= {f"channels.telegram.{key}" for key in ("groupPolicy", "groupAllowFrom", "apiBase", "reactEmoji")}
    keys = ("groupPolicy", "groupAllowFrom", "apiBase", "proxy", "replyToMessage", "reactEmoji")
    new |= {f"channels.discord.{key}" for key in keys}
    new |= {
        f"agents.defaults.{key}" for key in ("contextWindow", "turnTimeoutSeconds", "queueMode", "deliverTo")
    }
    new |= {"agents.defaults.maxConcurrentTurns", "agents.defaults.maxConcurrentSubagents"}
    keys = ("enabledTools", "disabledTools", "autoApprove", "envFile", "cwd", "startupTimeout")
    new |= {f"tools.mcpServers.*.{key}" for key in keys}
    new |= {"tools.restrictToWorkspace", "tools.web.allowPrivate"}
    data = json.loads(LEGACY.read_text(encoding="utf-8"))
    missing = [
        path
        for path in key_paths(Config)
        if not path.startswith(("heartbeat", "cron", "memory", "skills", "providers."))
        and not _present(data, path)
    ]
    assert set(missing) == new


def _present(data: Any, path: str) -> bool:
    nodes = [data]
    for step in path.split("."):
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in step)
        nodes = [
            value
            for node in nodes
            for key, value in node.items()
            if isinstance(node, dict) and (step == "*" or key in (step, snake))
        ]
    return bool(nodes)


def test_an_explicit_restriction_beats_the_older_one(file: Path) -> None:
    tools = {"restrictToWorkspace": False, "exec": {"restrict_to_workspace": True}}
    assert not load(file, {"tools": tools}).config.tools.restrict_to_workspace


# Environment


def test_environment_beats_file_beats_defaults(file: Path) -> None:
    data = {"agents": {"defaults": {"model": "file", "max_tokens": 5}}}
    loaded = load(file, data, NANOBOT_AGENTS__DEFAULTS__MODEL="env", NANOBOT_HOME="/x", OTHER__THING="1")
    defaults = loaded.config.agents.defaults
    assert (defaults.model, defaults.max_tokens, defaults.temperature) == ("env", 5, 0.1)
    assert defaults.model_fields_set == {"model", "max_tokens"}
    assert loaded.warnings == ()


def test_environment_values_are_json_except_for_text(file: Path) -> None:
    config = load(
        file,
        {"tools": {"mcpServers": {"My-Files": {"command": "old", "args": ["a"]}}}},
        NANOBOT_CHANNELS__TELEGRAM__ALLOWFROM='["a", 12]',
        NANOBOT_CHANNELS__TELEGRAM__TOKEN="123",
        NANOBOT_CHANNELS__TELEGRAM='{"enabled": true}',
        NANOBOT_TOOLS__EXEC__ENABLED="false",
        NANOBOT_AGENTS__DEFAULTS__QUEUE_MODE="steer",
        **{"NANOBOT_TOOLS__MCPSERVERS__My-Files__COMMAND": "npx"},
        NANOBOT_TOOLS__MCP_SERVERS__new__ENV__API_KEY='{"json": "as text"}',
        nanobot_gateway__port="0",
    ).config
    telegram = config.channels.model_extra["telegram"]
    assert telegram.allow_from == ["a", "12"]
    assert (telegram.token, telegram.enabled) == ("123", True)
    assert (config.tools.exec.enabled, config.agents.defaults.queue_mode) == (False, "steer")
    files = config.tools.mcp_servers["My-Files"]
    assert (files.command, files.args) == ("npx", ["a"])
    assert config.tools.mcp_servers["new"].env == {"API_KEY": '{"json": "as text"}'}
    assert config.gateway.port == 0


def test_environment_mistakes_are_named(file: Path) -> None:
    loaded = load(file, {}, NANOBOT_AGENT__MODEL="x", NANOBOT_GATEWAY__PORT__X="1", NANOBOT_TOOLS__="1")
    assert [warning.split(":")[0] for warning in loaded.warnings] == [
        "environment variable NANOBOT_AGENT__MODEL",
        "environment variable NANOBOT_GATEWAY__PORT__X",
        "environment variable NANOBOT_TOOLS__",
    ]
    twice = load(file, {}, NANOBOT_GATEWAY__PORT="1", nanobot_gateway__port="2")
    assert twice.config.gateway.port == 2
    assert twice.warnings == ("gateway.port: set by two environment variables, nanobot_gateway__port counts",)
    message = refusal(file, {}, NANOBOT_AGENTS__DEFAULTS__MAXTOKENS="many")
    assert "agents.defaults.maxTokens (from NANOBOT_AGENTS__DEFAULTS__MAXTOKENS)" in message
    assert "'gateway' should be an object" in refusal(file, {"gateway": 5}, NANOBOT_GATEWAY__PORT="1")


INTEGER_KEYS = [
    path
    for path in key_paths(Config)
    if path.startswith("agents.defaults.") and path.endswith(("Tokens", "Iterations"))
]


@settings(deadline=None)
@given(st.sampled_from(INTEGER_KEYS), st.integers(1, 10**6), st.randoms(use_true_random=False))
def test_a_variable_reaches_its_key_in_any_spelling(path: str, value: int, chance: random.Random) -> None:
    def respell(key: str) -> str:
        snake = "".join(f"_{letter}" if letter.isupper() else letter for letter in key)
        return chance.choice([key, key.lower(), key.upper(), snake.lower(), snake.upper()])

    variable = "NANOBOT_" + "__".join(respell(step) for step in path.split("."))
    loaded = load_config(Path("/nonexistent/config.json"), {variable: str(value)})
    values: Any = written(loaded.config)
    for step in path.split("."):
        values = values[step]
    assert (values, loaded.warnings) == (value, ())


@settings(deadline=None)
@given(st.data())
def test_any_part_of_the_file_in_any_spelling_reads_the_same(data: st.DataObject) -> None:
    full = written(Config())

    def pick(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        chosen = data.draw(st.lists(st.sampled_from(sorted(node)), unique=True)) if node else []
        return {spell(key): pick(node[key]) for key in chosen}

    def spell(key: str) -> str:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
        return data.draw(st.sampled_from([key, snake]))

    with tempfile.TemporaryDirectory() as folder:
        loaded = load(Path(folder) / "config.json", pick(full))
    assert (written(loaded.config), loaded.warnings) == (written(Config()), ())


# ${VAR}


def test_variables_in_text_are_replaced(file: Path) -> None:
    data = {
        "providers": {"openai": {"apiKey": "${KEY}", "extraHeaders": {"X": "a ${KEY} b"}}},
        "channels": {"telegram": {"allowFrom": ["${ME}"]}},
        "gateway": {"port": "${PORT}", "host": "$HOME ${EMPTY}x"},
    }
    config = load(file, data, KEY="k${ME}", ME="1", PORT="7", EMPTY="").config
    assert config.providers.openai.api_key == "k${ME}", "values are not expanded again"
    assert config.providers.openai.extra_headers == {"X": "a k${ME} b"}
    assert config.channels.model_extra["telegram"].allow_from == ["1"]
    assert (config.gateway.port, config.gateway.host) == (7, "$HOME x")


def test_an_unset_variable_is_named_with_its_path_and_switches_off_its_section_alone(file: Path) -> None:
    servers = {"a": {"command": "x", "args": ["x", "${NOT_SET}"]}, "b": {"command": "y"}}
    data = {
        "tools": {"mcpServers": servers, "web": {"allowPrivate": ["${NET}", "10.0.0.1"]}},
        "providers": {"groq": {"apiKey": "${KEY}"}, "openai": {"apiKey": "k"}},
        "channels": {"telegram": {"enabled": True, "allowFrom": ["${ME}"]}, "discord": {"enabled": True}},
        "gateway": {"token": "${TOKEN}"},
    }
    config, warnings = split(load(file, data))
    unset = "the environment variable {} is not set, so {}"
    assert warnings == {
        "tools.web.allowPrivate.0": unset.format("NET", "the default counts"),
        "tools.mcpServers.a.args.1": unset.format("NOT_SET", "this server is off"),
        "providers.groq.apiKey": unset.format("KEY", "this provider is off"),
        "channels.telegram.allowFrom.0": unset.format("ME", "this channel is off"),
        "gateway.token": unset.format("TOKEN", "/health and /status are off"),
    }
    assert {name: server.usable for name, server in config.tools.mcp_servers.items()} == {
        "a": False,
        "b": True,
    }
    assert (config.providers.groq.fault != "", config.providers.openai.fault) == (True, "")
    assert list(config.channels.enabled()) == ["discord"]
    assert list(config.channels.faults()) == ["telegram"], "an id that is missing opens nothing"
    assert config.gateway.fault
    assert config.tools.web.allow_private == ["10.0.0.1"]


@pytest.mark.parametrize("wrong", [5, None, [], "x", True])
def test_a_part_that_is_no_object_is_off_alone(file: Path, wrong: object) -> None:
    config, warnings = split(
        load(
            file,
            {
                "providers": wrong,
                "channels": wrong,
                "gateway": wrong,
                "tools": {"mcpServers": wrong, "exec": {"timeout": 5}},
                "agents": {"subagentProfiles": wrong},
            },
        )
    )
    off = {path: words.removeprefix("expected a valid dictionary, so ") for path, words in warnings.items()}
    assert off == {
        "providers": "no provider has a key of this file",
        "channels": "its default counts",
        "gateway": "/health and /status are off",
        "tools.mcpServers": "there are no MCP servers",
        "agents.subagentProfiles": "there are no profiles",
    }
    assert config.tools.exec.timeout == 5
    assert config.channels.enabled() == config.tools.mcp_servers == config.agents.subagent_profiles == {}


@pytest.mark.parametrize("ids", [[True], [""], [None], [["7"]], None, "7", {"7": True}, "${NO}", ["7", ""]])
def test_ids_that_are_none_open_no_channel(file: Path, ids: object) -> None:
    config, warnings = split(load(file, {"channels": {"telegram": {"enabled": True, "allowFrom": ids}}}))
    [(path, words)] = warnings.items()
    assert path.startswith("channels.telegram.allowFrom")
    assert words.endswith("so this channel is off")
    assert config.channels.enabled() == {}


@pytest.mark.parametrize("switch", [{"disabled": True}, {"isActive": False}, {"is_active": "no"}])
def test_what_is_switched_off_in_another_programs_words_is_off(file: Path, switch: dict[str, Any]) -> None:
    section = {"enabled": True, "token": "${NO}", **switch}
    loaded = load(file, {"channels": {"telegram": section}, "heartbeat": switch})
    assert (loaded.warnings, loaded.config.channels.enabled()) == ((), {})
    assert not loaded.config.heartbeat.enabled


@pytest.mark.parametrize(
    "data",
    [
        {"tools": {"restrictToWorkspace": "${NO}"}},
        {"tools": {"exec": {"enabled": "${NO}"}}},
        {"tools": {"policy": {"exec": "${NO}"}}},
        {"tools": {"exec": {"restrictToWorkspace": "${NO}"}}},
        {"agents": {"defaults": {"workspace": "${NO}/bot"}}},
    ],
)
def test_no_default_stands_in_for_a_variable_that_guards_something(file: Path, data: object) -> None:
    assert "the environment variable NO is not set" in refusal(file, data)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:KEY}", "k"),
        ("${KEY:-other}", "k"),
        ("${NO:-other}", "other"),
        ("${env:NO:-}", ""),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${NO:-a${KEY}b}", "akb"),
        ("$${KEY}", "${KEY}"),
        ("$$${KEY} $${NO:-x}", "$${KEY} ${NO:-x}"),
        ("$KEY ${1} ${KEY%%.*} ${", "$KEY ${1} ${KEY%%.*} ${"),
    ],
)
def test_references_in_the_forms_of_other_programs(file: Path, text: str, value: str) -> None:
    assert load(file, {"gateway": {"host": text}}, KEY="k", EMPTY="").config.gateway.host == value


def test_variables_of_things_switched_off_may_be_missing(file: Path) -> None:
    servers = {"a": {"env": {"T": "${NO}"}, "enabled": False}, "b": {"url": "${NO}", "enabled": False}}
    data = {"tools": {"mcpServers": servers}, "channels": {"slack": {"enabled": False, "botToken": "${NO}"}}}
    loaded = load(file, data)
    assert loaded.warnings == ()
    assert not any(server.enabled for server in loaded.config.tools.mcp_servers.values())


# Wrong types and unknown keys


def test_all_wrong_types_are_listed_with_path_and_expectation(file: Path) -> None:
    text = json.dumps(
        {
            "agents": {"defaults": {"max_tokens": "hunter2", "temperature": None, "queueMode": "stear"}},
            "channels": {
                "telegram": {
                    "allowFrom": ["a", True],
                    "groupAllowFrom": "hunter2",
                    "groupPolicy": None,
                    "reactEmoji": [],
                },
            },
            "providers": {"openai": {"apiKey": True}, "groq": "hunter2"},
            "gateway": {"port": 70000},
            "tools": {"mcpServers": [], "exec": {"timeout": True}},
        }
    )
    message = refusal(file, text)
    lines = {line.strip() for line in message.splitlines()[1:]}
    assert lines == {
        "agents.defaults.maxTokens: expected a valid integer",
        "agents.defaults.temperature: expected a valid number",
        "agents.defaults.queueMode: expected 'queue' or 'steer'",
        "channels.telegram.allowFrom.1: expected a valid string",
        "channels.telegram.groupAllowFrom: expected a valid list",
        "channels.telegram.groupPolicy: expected 'mention' or 'open' or 'allowlist'",
        "channels.telegram.reactEmoji: expected a valid string",
        "providers.openai.apiKey: expected a valid string",
        "providers.groq: expected a valid dictionary",
        "gateway.port: expected less than or equal to 65535",
        "tools.mcpServers: expected a valid dictionary",
        "tools.exec.timeout: expected a valid integer",
    }
    assert "hunter2" not in message
    assert str(file) in message
    assert file.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("data", "key", "hint"),
    [
        ({"agents": {"defaults": {"max_token": 5}}}, "agents.defaults.max_token", "did you mean maxTokens?"),
        ({"channels": {"telegrm": {}}}, "channels.telegrm", "did you mean telegram?"),
        (
            {"channels": {"telegram": {"alowFrom": []}}},
            "channels.telegram.alowFrom",
            "did you mean allowFrom?",
        ),
        ({"channels": {"slak": {}}}, "channels.slak", "did you mean slack?"),
        ({"inputs": []}, "inputs", INPUTS["inputs"]),
        ({"channels": {"telegram": {"disallowFrom": []}}}, "channels.telegram.disallowFrom", "ignored"),
        ({"agents": {"defaults": {"minTokens": 5}}}, "agents.defaults.minTokens", "ignored"),
        ({"agents": {"defaults": {"modle": "m"}}}, "agents.defaults.modle", "did you mean model?"),
        ({"tools": {"exec": {"timeoutMs": 5}}}, "tools.exec.timeoutMs", "ignored"),
        (
            {"tools": {"mcpServers": {"a": {"timeout": 5000}}}},
            "tools.mcpServers.a.timeout",
            "whose unit differs between programs; write toolTimeout, in seconds",
        ),
        ({"tools": {"mcpServers": {"a": {"urll": ""}}}}, "tools.mcpServers.a.urll", "did you mean url?"),
        ({"providers": {"zzz": {}}}, "providers.zzz", "ignored"),
        ({"gateway": {"$schema": "${NO}"}}, "gateway.$schema", "ignored"),
    ],
)
def test_unknown_keys_warn_with_the_nearest_known_one(file: Path, data: object, key: str, hint: str) -> None:
    assert load(file, data).warnings == (f"{key}: unknown key, {hint}",)


def test_a_key_given_twice_warns(file: Path) -> None:
    spelled = load(file, {"agents": {"defaults": {"max_tokens": 1, "maxTokens": 2}}})
    assert spelled.config.agents.defaults.max_tokens == 1
    assert spelled.warnings == ("agents.defaults.maxTokens: given in two spellings, the first one counts",)


def test_the_section_of_an_installed_channel_plugin_is_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "acme-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Name: acme\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[nanobot.channels]\nacme = acme:Channel\n")
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    loaded = load(file, {"channels": {"acme": {"room": "${ROOM}"}}}, ROOM="r1")
    assert loaded.warnings == ()
    assert loaded.config.channels.model_extra == {"acme": {"room": "r1"}}
    assert "r1" not in repr(loaded.config)
