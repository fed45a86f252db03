"""`nanobot memory search`, as its owner runs it."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Nanobot


@pytest.fixture
def talked(nanobot: Nanobot) -> Nanobot:
    model = nanobot.script({"text": "I will remember that."}, loop=True)
    nanobot.run("agent", "-m", "My dog is called Rex", "--model", model)
    nanobot.run("agent", "-m", "The kayak is red", "-s", "work", "--model", model)
    return nanobot


def test_an_empty_home_has_nothing_and_gets_nothing(nanobot: Nanobot) -> None:
    done = nanobot.run("memory", "search", "dog")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing found" in done.stderr
    assert not nanobot.home.exists()


def test_the_owner_finds_every_conversation(talked: Nanobot) -> None:
    for words, expected in ((["my", "dog"], "My dog is called Rex"), (["kayak"], "The kayak is red")):
        done = talked.run("memory", "search", *words)
        assert expected in done.stdout
    assert done.stderr == ""
    assert "cli:work#1" in done.stdout


def test_json_and_limit(talked: Nanobot) -> None:
    hits = json.loads(talked.run("memory", "search", "dog kayak", "--json", "--limit", "1").stdout)
    assert len(hits) == 1
    assert {*hits[0]} == {
        "kind", "id", "date", "time", "speaker", "past", "text", "sources", "score",
    }  # fmt: skip
    assert json.loads(talked.run("memory", "search", "zeppelin", "--json").stdout) == []


def test_as_a_session_sees_it(talked: Nanobot) -> None:
    assert "Rex" in talked.run("memory", "search", "dog", "--session", "direct").stdout
    assert talked.run("memory", "search", "dog", "--session", "work").stdout == ""


def test_a_message_by_its_id(talked: Nanobot) -> None:
    assert "My dog is called Rex" in talked.run("memory", "search", "cli:direct#1").stdout


@pytest.mark.parametrize("text", ['"', "AND OR NOT", "a* NEAR(b", "said:x", "--", "💥"])
def test_text_is_never_syntax(talked: Nanobot, text: str) -> None:
    done = talked.run("memory", "search", "--", text)
    assert done.returncode == 0
    assert "Error" not in done.stderr


def test_a_damaged_index_is_told_once(talked: Nanobot) -> None:
    talked.run("memory", "search", "dog")
    (talked.home / "search.db").write_bytes(b"garbage" * 1000)
    done = talked.run("memory", "search", "dog")
    assert "Rex" in done.stdout
    assert done.stderr.count("made anew") == 1
    assert talked.run("memory", "search", "dog").stderr == ""


def test_a_hand_edit_is_found(talked: Nanobot) -> None:
    file = talked.home / "workspace/memory/MEMORY.md"
    file.write_text("- The owner plays the cello.\n")
    assert "plays the cello" in talked.run("memory", "search", "cello").stdout


def test_what_others_wrote_is_a_fact_by_the_owners_word(talked: Nanobot) -> None:
    folder = talked.home / "workspace/memory"
    (folder / "UNCONFIRMED.md").write_text("- Likes tea. <!-- telegram:5#1 -->\n- Bank is Evil.\n")
    assert "UNCONFIRMED.md has 2 facts" in talked.run("status").stdout
    shown = talked.run("memory", "confirm").stdout.splitlines()
    assert [line[8:] for line in shown] == [": Likes tea. (telegram:5#1)", ": Bank is Evil. ()"]
    assert "Likes tea" not in talked.run("memory", "search", "tea").stdout
    assert talked.run("memory", "confirm", shown[0][:8]).stdout == "Remembered: Likes tea.\n"
    assert "Likes tea" in talked.run("memory", "search", "tea").stdout
    assert talked.run("memory", "confirm").stdout.splitlines() == shown[1:]
    unknown = talked.run("memory", "confirm", "00000000")
    assert (unknown.returncode, "No unconfirmed fact has the id 00000000" in unknown.stderr) == (1, True)
    assert talked.run("memory", "confirm", shown[1][:8]).returncode == 0
    assert "No fact waits for your word." in talked.run("memory", "confirm").stderr
