"""`nanobot onboard` on a config that somebody wrote by hand: nothing in it is lost, or nothing is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gateway.processes import Home

ONBOARD = ("onboard", "--non-interactive", "--provider", "groq", "--api-key-env", "GK", "--skip-check")
TELEGRAM = '"channels":{"telegram":{"enabled":true,"token":"123:abc","allowFrom":["7"]}}'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.env["GK"] = "gsk_new"
    return made


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            f'{{{TELEGRAM},"providers":{{"groq":{{"apiKey":"gsk_abc"}}}},"channels":{{"sendProgress":false}}}}',
            "channels is given twice, at line 1, column 2 and line 1, column 121.",
        ),
        (
            '{"channels": {"telegram": {\n  "allowFrom": ["7"],\n  "enabled": true,\n  "allowFrom": []}}}',
            "channels.telegram.allowFrom is given twice, at line 2, column 3 and line 4, column 3.",
        ),
        (
            '{"providers": {"openai": {"apiKey": "a"}}, "providers": {"groq": {"apiKey": "b"}}}',
            "providers is given twice, at line 1, column 2 and line 1, column 44.",
        ),
    ],
)
async def test_a_key_given_twice_is_named_and_nothing_is_changed(home: Home, text: str, places: str) -> None:
    (home.home / "config.json").write_text(text)
    for command in (("status",), ("agent", "-m", "hi"), ("gateway",), ONBOARD):
        code, out, err = await home.run(*command)
        assert code != 0, command
        assert places in out + err
        assert "abc" not in out + err
    assert (home.home / "config.json").read_text() == text


async def test_what_was_not_asked_for_stays_byte_for_byte(home: Home) -> None:
    before = (
        '\ufeff{\r\n\t"agents" : { "defaults": {"temperature": 0.10, "model": "groq/old"} },\r\n'
        '\t"mine": [1.50, 1e2, "\\u00e9é", {"z": 1, "a": 2}],\r\n\r\n'
        '\t"providers": {\r\n\t\t"groq": {"api_key": "gsk_old"},\r\n\t\t"openai": {}\r\n\t}\r\n}\r\n\r\n'
    )
    file = home.home / "config.json"
    file.write_bytes(before.encode())
    code, _, err = await home.run(*ONBOARD, "--model", "groq/new")
    assert code == 0, err
    assert file.read_bytes().decode() == before.replace("gsk_old", "gsk_new").replace("groq/old", "groq/new")
