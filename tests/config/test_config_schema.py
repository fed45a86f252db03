"""The configuration models: names, defaults, secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nanobot.channels.telegram_config import TelegramConfig
from nanobot.config.json_schema import config_schema
from nanobot.config.schema import Config, ProviderConfig, ProvidersConfig
from nanobot.config.section import Section, entry_of, fields_of
from tests.config.keys import key_paths, written

LEGACY = Path(__file__).parent / "legacy_config.json"


def sections(section: type[Section] = Config) -> Iterator[type[Section]]:
    yield section
    for field in section.model_fields.values():
        inner: Any = entry_of(field.annotation) or field.annotation
        if fields_of(inner):
            yield from sections(inner)


def test_defaults_are_those_users_know() -> None:
    config = Config()
    defaults = config.agents.defaults
    assert (defaults.workspace, defaults.model) == ("~/.nanobot/workspace", "anthropic/claude-opus-4-5")
    assert (defaults.max_tokens, defaults.temperature, defaults.memory_window) == (8192, 0.1, 100)
    assert (defaults.max_tool_iterations, defaults.subagent_max_iterations) == (40, 15)
    assert (defaults.max_concurrent_turns, defaults.queue_mode, defaults.context_window) == (8, "queue", None)
    assert (config.gateway.host, config.gateway.port, config.gateway.token) == ("127.0.0.1", 18790, "")
    assert (config.heartbeat.enabled, config.heartbeat.interval_minutes) == (True, 30)
    assert config.cron.catch_up_window == 3600
    assert (config.tools.exec.enabled, config.tools.exec.timeout, config.tools.exec.env) == (True, 60, [])
    assert (config.tools.restrict_to_workspace, config.tools.mcp_servers) == (False, {})
    assert (config.tools.web.search.max_results, config.tools.web.allow_private) == (5, [])
    channels = config.channels
    assert (channels.send_progress, channels.send_tool_hints, channels.show_tool_progress) == (
        True,
        False,
        False,
    )
    telegram = TelegramConfig()
    assert (telegram.enabled, telegram.allow_from, telegram.group_policy) == (False, [], "mention")


def test_two_configurations_share_nothing() -> None:
    one, two = Config(), Config()
    one.channels.model_extra["telegram"] = {"allowFrom": []}
    one.providers.openai.api_key = "k"
    one.tools.exec.env.append("X")
    assert two.channels.model_extra == {}
    assert two.providers.openai.api_key == ""
    assert two.tools.exec.env == []


def test_a_provider_is_added_with_the_line_of_the_readme() -> None:
    class Extended(ProvidersConfig):
        myprovider: ProviderConfig = ProviderConfig()

    read = Extended.model_validate({"myprovider": {"apiKey": "k", "apiBase": "http://x"}})
    assert (read.myprovider.api_key, read.myprovider.api_base) == ("k", "http://x")
    assert written(Extended())["myprovider"] == written(ProviderConfig())


def test_every_key_has_a_description() -> None:
    nameless = [
        f"{section.__name__}.{name}"
        for section in sections()
        for name, field in section.model_fields.items()
        if not field.description and section is not ProvidersConfig
    ]
    assert nameless == []


def test_secrets_stay_out_of_repr() -> None:
    seen = 0
    for section in sections():
        for name, field in section.model_fields.items():
            words = set(name.split("_"))
            if words & {"key", "token", "password", "secret", "headers"} and field.annotation is not bool:
                assert field.repr is False, f"{section.__name__}.{name}"
            if not field.repr:
                value: Any = {"X": "hunter2"} if "dict" in str(field.annotation) else "hunter2"
                instance = section(**{name: value})
                assert "hunter2" not in f"{instance!r} {instance}"
                seen += 1
    assert seen > 20
    config = Config.model_validate(json.loads(LEGACY.read_text(encoding="utf-8")))
    for secret in ("sk-or-v1-xxx", "your-app-password", "claw_xxx", "Bearer xxxxx", "YOUR_BOT_TOKEN"):
        assert secret not in repr(config)


def test_written_keys_are_camel_case_and_read_back() -> None:
    config = Config.model_validate(json.loads(LEGACY.read_text(encoding="utf-8")))
    file = written(config)
    assert "_" not in "".join(path for path in key_paths(Config))
    assert file["providers"]["githubCopilot"] == {"apiKey": "", "apiBase": None, "extraHeaders": None}
    assert written(Config.model_validate(file)) == file


def test_json_schema_accepts_what_we_write_and_refuses_wrong_types() -> None:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(written(Config()))) == []
    assert list(validator.iter_errors({"$schema": "x", "somethingNew": 1})) == []
    wrong = {"channels": {"telegram": {"allowFrom": None}}, "agents": {"defaults": {"maxTokens": "many"}}}
    assert len(list(validator.iter_errors(wrong))) == 2


@pytest.mark.parametrize(
    ("workspace", "expected"),
    [
        ("~/.nanobot/workspace", "{home}/workspace"),
        ("~/.nanobot", "{home}"),
        ("~/elsewhere", "{user}/elsewhere"),
        ("/srv/bot", "/srv/bot"),
        ("bots/one", "{home}/bots/one"),
        ("~nobody-like-this/x", "{home}/~nobody-like-this/x"),
    ],
)
def test_workspace_moves_with_nanobot_home(
    workspace: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    config = Config.model_validate({"agents": {"defaults": {"workspace": workspace}}})
    assert str(config.workspace_path) == expected.format(home=tmp_path, user=Path.home())
