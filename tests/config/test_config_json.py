"""Files that are no JSON: place and fix are named, secrets are not, and nothing is touched."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.config.loader import load_config
from nanobot.errors import ConfigError


def message_for(path: Path, content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert path.read_bytes() == raw
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "place", "fix"),
    [
        ('{"a": 1,\n}', "line 2, column 1", "Remove the comma"),
        ('{"a": [1,\n]}', "line 2, column 1", "Remove the comma"),
        ('{\n "a": 1\n "b": 2\n}', "line 3, column 2", "Expecting ',' delimiter"),
        ("{'a': 1}", "line 1, column 2", 'Write "'),
        ('{"a": “x”}', "line 1, column 7", 'Write "'),
        ('{"a": 1, // why\n "b": 2}', "line 1, column 10", "Remove the comment"),
        ('# mine\n{"a": 1}', "line 1, column 1", "Remove the comment"),
        ('{\n "a": "x\n}', "line 2", "Invalid control character"),
        (r'{"a": "C:\Users"}', "line 1", "escape"),
        ('{"a": 1}}', "line 1, column 9", "Extra data"),
        ('{"a": ', "line 1", "Expecting value"),
        ('{"apiKey": sk-hunter2}', "line 1, column 12", "Expecting value"),
        ("", "line 1", "Expecting value"),
        ("[]", "line 1", "one JSON object"),
        ("[" * 200_000, "", "nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", "", "absurdly long number"),
        (b'{"a":\n "\xff"}', "line 2", "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "line 1", "not UTF-8"),
    ],
)
def test_a_syntax_fault_is_told_with_place_and_fix(
    tmp_path: Path, content: str | bytes, place: str, fix: str
) -> None:
    message = message_for(tmp_path / "config.json", content)
    assert place in message
    assert fix in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("content", "path", "places"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "a", "line 1, column 2 and line 1, column 18"),
        ('{\n  "a": {"b": {}},\n  "a":\n{}}', "a", "line 2, column 3 and line 3, column 3"),
        ('{"a": [{"b": {}}, {"b": 1, "\\u0062": 1}]}', "a.1.b", "line 1, column 20 and line 1, column 28"),
        (
            '{"channels": {"telegram": {"allowFrom": ["7"], "token": "}\\"", "allowFrom": []}}}',
            "channels.telegram.allowFrom",
            "line 1, column 28 and line 1, column 64",
        ),
        ('{"": {"": 1, "": 1}}', ".", "line 1, column 7 and line 1, column 14"),
    ],
)
def test_a_key_given_twice_is_refused_with_both_places(
    tmp_path: Path, content: str, path: str, places: str
) -> None:
    message = message_for(tmp_path / "config.json", content)
    assert f"config.json: {path} is given twice, at {places}." in message


def test_a_key_given_twice_in_a_variable_is_refused(tmp_path: Path) -> None:
    variable = {"NANOBOT_CHANNELS__TELEGRAM": '{"allowFrom": ["7"], "allowFrom": []}'}
    with pytest.raises(
        ConfigError, match="environment variable NANOBOT_CHANNELS__TELEGRAM: allowFrom is given"
    ):
        load_config(tmp_path / "config.json", variable)


def test_what_everyone_may_write_to_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text("{}")
    assert load_config(path, {}).warnings == ()
    path.chmod(0o666)
    tmp_path.chmod(0o777)
    assert [warning.split(": ")[0] for warning in load_config(path, {}).warnings] == [
        f"{tmp_path}",
        f"{path}",
    ]
    path.chmod(0o644)
    tmp_path.chmod(0o1777)
    assert load_config(path, {}).warnings == ()


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"gateway": {"port": 1}}')
    assert load_config(path, {}).config.gateway.port == 1


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    loop = tmp_path / "loop.json"
    loop.symlink_to(loop)
    (tmp_path / "file").write_text("{}")
    for path in (tmp_path, loop, tmp_path / "file" / "config.json"):
        with pytest.raises(ConfigError, match=f"Cannot read {path}: "):
            load_config(path, {})


VALID = """{
  "providers": {
    "openai": {"apiKey": "sk-hunter2-hunter2", "extraHeaders": {"X": "hunter2"}},
    "openrouter": {
      "apiKey": "hunter2"
    }
  },
  "channels": {"telegram": {"enabled": true, "token": "12:hunter2", "allowFrom": [1, "2"]}}
}"""


@settings(deadline=None)
@given(st.integers(0, len(VALID) - 1), st.text("\"'{}[]:,/#\\\n x", max_size=2), st.integers(0, 2))
def test_no_slip_of_the_keyboard_crashes_or_leaks(place: int, inserted: str, removed: int) -> None:
    content = VALID[:place] + inserted + VALID[place + removed :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(content, encoding="utf-8")
        try:
            said = "".join(load_config(path, {}).warnings)
        except ConfigError as error:
            said = str(error)
    assert "hunter2" not in said
