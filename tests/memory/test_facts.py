"""The lines of MEMORY.md and HISTORY.md: what is written is read back, and any text can be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.memory.facts import (
    Evidence,
    Fact,
    HistoryEntry,
    decode_memory,
    encode_memory,
    format_entry,
    format_fact,
    message_id,
    parse_facts,
    parse_history,
    plain_text,
    split_message_id,
    superseded,
    unreadable,
)

KEYS = st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(lambda key: key.strip() == key)
TEXTS = (
    st.builds(str.__add__, st.characters(categories=["L"]), st.text(min_size=2))
    .map(plain_text)
    .filter(lambda text: len(text) > 2 and text[0].isalpha())
)
IDS = st.lists(st.builds(message_id, KEYS, st.integers(1, 50)), max_size=8).map(
    lambda ids: tuple(sorted(set(ids), key=split_message_id))
)
ORIGINS = st.builds(Evidence, st.sampled_from(["", "2026-11-26"]), IDS, st.booleans())


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
    assert {fact.origin for fact in parse_facts(text)} == {Evidence()}


def test_a_line_of_ours() -> None:
    fact = Fact("Lives in Paris.", Evidence("2026-11-26", ("cli:direct#12", "cli:direct#14")))
    line = "- Lives in Paris. <!-- 2026-11-26 cli:direct#12,14 -->"
    assert format_fact(fact) == line
    assert parse_facts(line) == [fact]


@given(st.lists(st.builds(Fact, TEXTS, ORIGINS), max_size=6))
def test_facts_are_read_back(facts: list[Fact]) -> None:
    text = "\n".join(format_fact(fact) for fact in facts)
    assert parse_facts(text) == facts
    assert [fact.line for fact in parse_facts(text)] == list(range(len(facts)))


@given(TEXTS, ORIGINS, st.sampled_from(["", "09:30"]))
def test_entries_are_read_back(words: str, origin: Evidence, time: str) -> None:
    entry = HistoryEntry(words, Evidence("2026-11-26", origin.messages, origin.is_group), time)
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
    same, other = Fact(" lives in paris. <!-- x -->"), Fact("Lives in Rome.")
    assert Fact("Lives in  Paris.").id == same.id != other.id
    assert len(other.id) == 8


@pytest.mark.parametrize(
    ("origin", "session", "is_group", "visible"),
    [
        (Evidence(), "cli:direct", False, True),
        (Evidence(), "telegram:-1", True, False),
        (Evidence("", ("telegram:-1#3",), True), "telegram:-1", True, True),
        (Evidence("", ("telegram:-1#3",), True), "telegram:-2", True, False),
        (Evidence("", ("telegram:-1#3",), True), "cli:direct", False, False),
        (Evidence("", ("cli:direct#3",)), "telegram:5", False, True),
        (Evidence("", ("cli:direct#3",)), "cli:direct", True, False),
    ],
)
def test_who_may_see_what(origin: Evidence, session: str, is_group: bool, visible: bool) -> None:
    assert (origin.group == (session if is_group else "")) == visible


def test_an_absurd_range_stays_small() -> None:
    assert len(parse_facts("- x y <!-- a#1-999999999 -->")[0].origin.messages) < 20_000
    assert parse_facts(f"- x y <!-- a#{'9' * 5000} -->") == [Fact("x y")]
    ranges = ",".join(["1-999999999"] * 50)
    (fact,) = parse_facts(f"- x y <!-- {' '.join(f'{name}#{ranges}' for name in 'abcdefgh')} -->")
    assert len(fact.origin.messages) < 20_000


def test_a_day_that_does_not_exist_is_none() -> None:
    assert parse_facts("- x y <!-- 2026-06-31 -->") == [Fact("x y")]
    assert parse_history("[2026-06-31] x y") == [HistoryEntry("[2026-06-31] x y", line=0)]


@pytest.mark.parametrize(
    "day", ["0000-01-01", "0001-01-01", "1899-12-31", "2026-02-30", "2200-01-01", "9999-12-31"]
)
def test_a_day_nobody_means_is_none_and_is_named(day: str) -> None:
    fact, entry = f"- Likes tea. <!-- {day} -->", f"[{day} 10:00] Talked."
    assert parse_facts(fact) == [Fact("Likes tea.")]
    assert [entry.origin.day for entry in parse_history(entry)] == [""]
    for text in (fact, entry):
        assert list(unreadable(f"# Title\n{text}\n")) == [(2, f"there is no day {day}")]


@pytest.mark.parametrize("time", ["T10:00", " 10:00:59", "T10:00:59.123+02:00", "T10:00Z", " 10:00 -0330"])
def test_a_time_may_have_seconds_and_a_zone(time: str) -> None:
    text = f"[2026-11-26{time}] Talked."
    (entry,) = parse_history(text)
    assert (entry.origin.day, entry.time, entry.text) == ("2026-11-26", "10:00", "Talked.")
    assert list(unreadable(text)) == []


def test_what_cannot_be_read_is_named_with_its_line() -> None:
    text = b"- Likes tea. <!-- 2026-01-01 a#1 -->\n[2026-01-01 noonish] Talked.\n\xff\xfe\n"
    found = list(unreadable(text.decode("utf-8", "surrogateescape")))
    assert [number for number, _ in found] == [2, 3]
    assert "no time like 14:05" in found[0][1]
    assert "no UTF-8" in found[1][1]


def test_keys_that_no_session_can_have_are_no_evidence() -> None:
    for key in ("\udcff", "a\ud800b"):
        assert parse_facts(f"- x y <!-- {key}#1 -->") == [Fact("x y")]
        with pytest.raises(ValueError, match="no message id"):
            split_message_id(f"{key}#1")


def test_a_bad_line_is_off_alone_and_named() -> None:
    bad = ["- " + "x" * 10_000_000, "- Owns\0 a yak.", "- Latin \udce9.", "- Odd day. <!-- 2026-02-30 -->"]
    text = "\n".join(["- Likes tea.", *bad, "- Plays chess."])
    assert [fact.text for fact in parse_facts(text)] == [
        *("Likes tea.", "Owns a yak.", "Latin .", "Odd day.", "Plays chess.")
    ]
    assert sorted(unreadable(text)) == [
        (2, "it is longer than 20,000 characters and left out"),
        (3, "it has a NUL character"),
        (4, "it has bytes that are no UTF-8"),
        (5, "there is no day 2026-02-30"),
    ]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_keeps_its_encoding(codec: str, end: str) -> None:
    mark = "\ufeff" if codec == "utf-16-be" else ""
    content = (mark + end.join(["# Ich", "- Mag Käse.", "- Hat ein Yak.", ""])).encode(codec)
    facts = [fact.text for fact in parse_facts(decode_memory(content))]
    assert facts == ["Mag K se." if codec == "latin-1" else "Mag Käse.", "Hat ein Yak."]
    assert encode_memory(decode_memory(content), content) == content


@given(st.binary())
def test_any_bytes_come_back(content: bytes) -> None:
    assert encode_memory(decode_memory(content), content) == content
    assert encode_memory(decode_memory(b"\xff\xfe" + content), b"\xff\xfe" + content) == b"\xff\xfe" + content


def test_an_entry_of_any_number_of_lines_is_read_in_one_go() -> None:
    lines = [f"line {number} <!-- a#{number} -->" for number in range(100_000)]
    (entry,) = parse_history("\n".join(["[2026-11-26 14:05] Talked.", *lines]))
    assert entry.text.startswith("Talked. line 0 line 1 ")
    assert entry.text.endswith(" line 99999")
    assert entry.origin.messages[::99_999] == ("a#0", "a#99999")
