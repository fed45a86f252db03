"""The lines of MEMORY.md and HISTORY.md: what is written is read back, and any text can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.memory.facts import (
    Fact,
    HistoryEntry,
    Origin,
    fact_id,
    format_entry,
    format_fact,
    message_id,
    parse_facts,
    parse_history,
    plain_text,
    split_message_id,
    superseded,
)

KEYS = st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(lambda key: key.strip() == key)
TEXTS = st.text().map(plain_text).filter(lambda text: len(text) > 2 and text[0].isalpha())
IDS = st.lists(st.builds(message_id, KEYS, st.integers(1, 50)), max_size=8).map(
    lambda ids: tuple(sorted(set(ids), key=split_message_id))
)
ORIGINS = st.builds(Origin, st.sampled_from(["", "2026-11-26"]), IDS, st.booleans())


def test_a_hand_written_file() -> None:
    text = (
        "<!-- Facts, one a line.\n- not this one\n-->\n# About me\n\n- Has a cat called Mo.\nlikes tea\n"
        "* **Works** at a bakery <!-- since May --> in Ulm\n---\n1. Speaks Danish.\n"
    )
    assert [(fact.text, fact.line) for fact in parse_facts(text)] == [
        ("Has a cat called Mo.", 5),
        ("likes tea", 6),
        ("**Works** at a bakery in Ulm", 7),
        ("Speaks Danish.", 9),
    ]
    assert {fact.origin for fact in parse_facts(text)} == {Origin()}


def test_a_line_of_ours() -> None:
    fact = Fact("Lives in Paris.", Origin("2026-11-26", ("cli:direct#12", "cli:direct#14")))
    line = "- Lives in Paris. <!-- 2026-11-26 cli:direct#12,14 -->"
    assert format_fact(fact) == line
    assert parse_facts(line) == [fact]


@given(st.lists(st.builds(Fact, TEXTS, ORIGINS)))
def test_facts_are_read_back(facts: list[Fact]) -> None:
    text = "\n".join(format_fact(fact) for fact in facts)
    assert parse_facts(text) == facts
    assert [fact.line for fact in parse_facts(text)] == list(range(len(facts)))


@given(TEXTS, ORIGINS, st.sampled_from(["", "09:30"]))
def test_entries_are_read_back(words: str, origin: Origin, time: str) -> None:
    entry = HistoryEntry(words, Origin("2026-11-26", origin.messages, origin.is_group), time)
    past = superseded(Fact(words, origin), "Something else.", "2026-11-27")
    text = f"{format_entry(entry)}\n\n{format_entry(past)}\n"
    assert parse_history(text) == [entry, past]


@given(st.text(st.sampled_from("<!-> #[]2026-12:3*é\n\r\t\x00a,")))
def test_any_text_can_be_read(text: str) -> None:
    for fact in parse_facts(text):
        assert parse_facts(format_fact(fact))[0].id == fact.id
    for entry in parse_history(text):
        assert len(parse_history(format_entry(entry))) == 1


def test_history_written_by_hand_and_by_us() -> None:
    text = (
        "# History\n\n[2026-11-26 14:05] Talked about\nmoving. <!-- cli:direct#1-3 -->\n\n"
        "- [2026-11-26] superseded: Lives in Berlin. (2025-01-02) → Lives in Paris. <!-- cli:direct#2 -->\n"
    )
    entries = parse_history(text)
    assert [(entry.text, entry.origin.day, entry.time, entry.past) for entry in entries] == [
        ("Talked about moving.", "2026-11-26", "14:05", ""),
        ("superseded: Lives in Berlin. (2025-01-02) → Lives in Paris.", "2026-11-26", "", "superseded"),
    ]
    assert entries[0].origin.messages == ("cli:direct#1", "cli:direct#2", "cli:direct#3")


def test_an_id_does_not_depend_on_case_and_spacing() -> None:
    assert fact_id("Lives in  Paris.") == fact_id(" lives in paris. <!-- x -->") != fact_id("Lives in Rome.")
    assert len(fact_id("x")) == 8


@pytest.mark.parametrize(
    ("origin", "session", "is_group", "visible"),
    [
        (Origin(), "cli:direct", False, True),
        (Origin(), "telegram:-1", True, False),
        (Origin("", ("telegram:-1#3",), True), "telegram:-1", True, True),
        (Origin("", ("telegram:-1#3",), True), "telegram:-2", True, False),
        (Origin("", ("telegram:-1#3",), True), "cli:direct", False, False),
        (Origin("", ("cli:direct#3",)), "telegram:5", False, True),
        (Origin("", ("cli:direct#3",)), "cli:direct", True, False),
    ],
)
def test_who_may_see_what(origin: Origin, session: str, is_group: bool, visible: bool) -> None:
    assert origin.visible_in(session, is_group=is_group) == visible


def test_an_absurd_range_stays_small() -> None:
    assert len(parse_facts("- x y <!-- a#1-999999999 -->")[0].origin.messages) < 20_000
    assert parse_facts(f"- x y <!-- a#{'9' * 5000} -->") == [Fact("x y")]


def test_a_day_that_does_not_exist_is_none() -> None:
    assert parse_facts("- x y <!-- 2026-06-31 -->") == [Fact("x y")]
    assert parse_history("[2026-06-31] x y") == [HistoryEntry("[2026-06-31] x y", line=0)]
