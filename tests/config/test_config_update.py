"""Changing config.json: only what was asked, whole or not at all, and never over a broken file."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.config.json_text import remove_key
from nanobot.config.loader import update_config_file
from nanobot.errors import ConfigError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_changes_keep_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"zzz": {"kept": 1.50}, "agents": {"defaults": {"max_tokens": 1, "note": "mine"}}, "$schema": "s"}'
    )
    update_config_file(
        path,
        {
            "agents.defaults.maxTokens": 2,
            "agents.defaults.model": "m",
            "providers.openai_codex.api_key": "${KEY}",
            "tools.mcpServers.my-files.command": "npx",
            "tools.mcpServers.my-files.env.API_KEY": "Größe",
        },
    )
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    assert list(data) == ["zzz", "agents", "$schema", "providers", "tools"]
    assert data["zzz"] == {"kept": 1.5}
    assert data["agents"] == {"defaults": {"max_tokens": 2, "note": "mine", "model": "m"}}
    assert data["providers"] == {"openaiCodex": {"apiKey": "${KEY}"}}
    assert data["tools"]["mcpServers"]["my-files"] == {"command": "npx", "env": {"API_KEY": "Größe"}}
    assert "Größe" in text
    assert mode(path) == 0o600


@settings(deadline=None)
@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), JSON, max_size=4), st.integers(1, 99))
def test_unknown_content_survives_any_number_of_updates(unknown: dict[str, Any], tokens: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(unknown), encoding="utf-8")
        for value in (tokens, tokens + 1):
            update_config_file(path, {"agents.defaults.maxTokens": value})
        written = json.loads(path.read_text(encoding="utf-8"))
        assert list(written) == [*unknown, "agents"]
        assert written == {**unknown, "agents": {"defaults": {"maxTokens": tokens + 1}}}


def spaces(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(["", " ", "\t", "\n", "\r\n", "\n\n    ", "\r\n\t"]))


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """`value` as JSON as a person may lay it out."""
    if isinstance(value, dict):
        colon = draw(st.sampled_from([":", ": ", " : "]))
        members = [f"{draw(written(key))}{colon}{draw(written(inner))}" for key, inner in value.items()]
    elif isinstance(value, list):
        members = [draw(written(inner)) for inner in value]
    elif isinstance(value, str):
        return json.dumps(value, ensure_ascii=draw(st.booleans()))
    elif isinstance(value, int) and not isinstance(value, bool):
        as_fractions = [f"{value}.0", f"{value}.00e0", f"{value}E+0"] if abs(value) <= 2**53 else []
        return draw(st.sampled_from([f"{value}", *as_fractions]))
    else:
        return json.dumps(value)
    inside = f"{spaces(draw)},{spaces(draw)}".join(members)
    first, last = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{first}{spaces(draw)}{inside}{spaces(draw)}{last}"


@settings(deadline=None)
@given(st.data())
def test_all_but_the_changed_value_stays_byte_for_byte(data: st.DataObject) -> None:
    content: dict[str, Any] = data.draw(st.dictionaries(st.text('xyzé"\\', min_size=1), JSON, max_size=3))
    before = data.draw(st.sampled_from([None, {}, {"gateway": {}}, {"gateway": {"port": 17, "é": [{}]}}]))
    content |= before or {}
    text = data.draw(st.sampled_from(["", "\ufeff"])) + data.draw(written(content)) + spaces(data.draw)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_bytes(text.encode())
        update_config_file(path, {"gateway.port": 18})
        after = path.read_bytes().decode()
    expected: dict[str, Any] = {**content, "gateway": {**content.get("gateway", {}), "port": 18}}
    assert list(json.loads(after.removeprefix("\ufeff")).items()) == list(expected.items())
    start = len(os.path.commonprefix([text, after]))  # noqa: RUF071
    end = len(os.path.commonprefix([text[start:][::-1], after[start:][::-1]]))  # noqa: RUF071
    gone = text[start : len(text) - end]
    assert re.fullmatch(r"\s*|1?7?(\.?0*)?([eE]\+?0)?", gone), gone
    assert after.endswith(text[len(text.rstrip()) :])


@settings(deadline=None)
@given(st.data())
def test_what_is_removed_takes_nothing_else_along(data: st.DataObject) -> None:
    content: dict[str, Any] = data.draw(
        st.dictionaries(st.text('xyz,}"', min_size=1), JSON, min_size=1, max_size=4)
    )
    name = data.draw(st.sampled_from(list(content)))
    text = data.draw(written({"a": [], "b": content}))
    left = json.loads(remove_key(text, "b", name))
    del content[name]
    assert list(left["b"].items()) == list(content.items())


@pytest.mark.parametrize(
    ("content", "added"),
    [
        ("", '{\n  "gateway": {\n    "port": 1\n  }\n}\n'),
        ("{}", '{\n  "gateway": {\n    "port": 1\n  }\n}'),
        ('{"a":1}', '{"a":1,"gateway":{"port": 1}}'),
        ('{"a": 1}', '{"a": 1, "gateway": {"port": 1}}'),
        ('{\r\n\t"a": 1\r\n}\r\n', '{\r\n\t"a": 1,\r\n\t"gateway": {\r\n\t\t"port": 1\r\n\t}\r\n}\r\n'),
        ('{\n    "gateway": {}\n}', '{\n    "gateway": {\n        "port": 1\n    }\n}'),
        (
            '{\n    "gateway": {"host": "::1"}\n}',
            '{\n    "gateway": {"host": "::1", "port": 1}\n}',
        ),
    ],
)
def test_what_is_added_is_laid_out_as_its_neighbours(tmp_path: Path, content: str, added: str) -> None:
    path = tmp_path / "config.json"
    if content:
        path.write_bytes(content.encode())
    update_config_file(path, {"gateway.port": 1})
    assert path.read_bytes().decode() == added


def test_a_key_in_another_programs_spelling_is_changed_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{"tools": {"mcpServers": {"my_a": {"serverUrl": "http://a"}, "myA": {"tool_timeout": 1}}}}'
    )
    update_config_file(path, {"tools.mcpServers.my_a.url": "http://b", "tools.mcpServers.myA.toolTimeout": 2})
    assert path.read_text() == (
        '{"tools": {"mcpServers": {"my_a": {"serverUrl": "http://b"}, "myA": {"tool_timeout": 2}}}}'
    )


@pytest.mark.parametrize(
    ("content", "changes", "reason"),
    [
        ('{"a": 1,}', {"gateway.port": 1}, "Remove the comma"),
        ('{"a": 1, "a": 1}', {"gateway.port": 1}, "a is given twice"),
        ("{}", {"tools.mcpServers.a.args": "x"}, "tools.mcpServers.a.args: expected a valid list"),
        ("", {"gateway.port": 1}, "line 1, column 1"),
        ('{"gateway": 5}', {"gateway.port": 1}, "'gateway' should be an object"),
        ("{}", {"gateway.port": "hunter2"}, "gateway.port: expected a valid integer"),
        ("{}", {"agents.defaults.modle": "m"}, "did you mean model"),
        ("{}", {"gateway.port.deep": 1}, "gateway.port: expected a valid integer"),
    ],
)
def test_a_refused_change_leaves_the_file_alone(
    tmp_path: Path, content: str, changes: dict[str, object], reason: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        update_config_file(path, changes)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_and_folder_are_created(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.json"
    update_config_file(path, {"gateway.port": 1})
    assert json.loads(path.read_text()) == {"gateway": {"port": 1}}
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_a_linked_file_stays_linked(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    target, link = tmp_path / "dotfiles" / "nanobot.json", tmp_path / "config.json"
    target.write_text("{}")
    link.symlink_to(target)
    update_config_file(link, {"gateway.port": 1})
    assert link.is_symlink()
    assert json.loads(target.read_text()) == {"gateway": {"port": 1}}


def test_what_cannot_be_encoded_keeps_its_escape(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(r'{"x": "\ud800 ö"}')
    update_config_file(path, {"gateway.port": 1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"x": "\ud800 ö", "gateway": {"port": 1}}


def test_names_of_the_owners_choice_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"tools": {"mcp_servers": {"my-files": {"command": "a"}}}}')
    update_config_file(path, {"tools.mcpServers.my_files.command": "b"})
    servers = json.loads(path.read_text())["tools"]["mcp_servers"]
    assert servers == {"my-files": {"command": "a"}, "my_files": {"command": "b"}}


def test_a_file_without_a_change_is_made_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "home" / "config.json"
    update_config_file(path, {})
    assert (path.read_text(), mode(path)) == ("{}\n", 0o600)
    path.write_text('{"a": 1.50}')
    update_config_file(path, {})
    assert path.read_text() == '{"a": 1.50}'
