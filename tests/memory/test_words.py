"""Words and days, as search compares them."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.memory.dates import date_words, with_days
from nanobot.memory.words import content_words, says_something, words

TODAY = date(2026, 11, 26)  # a Thursday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("They went, having bought TWO dogs", ["they", "go", "having", "buy", "two", "dogs"]),
        ("Anna's children", ["anna", "child"]),
        ("Straße", ["strasse"]),
        ("parseHttpUrl parse_http_url", ["parsehttpurl", "parse", "http", "url"] * 2),
        ("HTTPServer utf8", ["httpserver", "http", "server", "utf8", "utf", "8"]),
        ("ＦＵＬＬ ｶﾅ", ["full", "カ", "ナ", "カナ"]),
        ("東京に", ["東", "京", "に", "東京", "京に"]),
        ("我叫Anna王", ["我", "叫", "我叫", "anna", "王"]),
        ("हिन्दी", ["हिन्दी"]),
        ('"; DROP TABLE -- AND (NEAR*', ["drop", "table", "and", "near"]),
        ("ក_ __", ["ក"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the name of my dog?", ["name", "dog"]),
        ("Wann war ich beim Zahnarzt?", ["beim", "zahnarzt"]),
        ("我的狗叫什么", ["狗", "叫", "的狗", "狗叫", "叫什"]),
        ("who are you", ["who", "be", "you"]),
    ],
)
def test_content_words(text: str, expected: list[str]) -> None:
    assert content_words(text) == expected


@pytest.mark.parametrize("text", ["hello", "Thanks, good!", "ok", "はい" * 3, "", "?!", "danke"])
def test_politeness_says_nothing(text: str) -> None:
    assert not any(says_something(word) for word in content_words(text))


@given(st.text())
def test_any_text_has_words(text: str) -> None:
    for word in words(text):
        assert word
        assert not set(word) & set('"*() \0')
    assert set(content_words(text)) <= set(words(text))


@given(st.text() | st.text(st.sampled_from("0123456789 -/.ofamyjunsteyd")), st.dates())
def test_any_text_may_name_days(text: str, today: date) -> None:
    assert with_days(text, today).count("\n") >= text.count("\n") - 10
    assert len(date_words(today).split()) == 6


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("What did I do yesterday?", "What did I do  20261125?"),
        ("the Day before yesterday", "the  20261124"),
        ("two weeks ago", " 20261109 20261110 20261111 20261112 20261113 20261114 20261115"),
        ("three months ago", " 202608"),
        ("12 months ago", " 202511"),
        ("two years ago", " 2024"),
        ("last weekend", " 20261121 20261122"),
        ("last Friday", " 20261120"),
        ("last Thursday", " 20261119"),
        ("last May: tea?", " 202605: tea?"),
        ("in December", " 202512"),
        ("this weekend", " 20261128 20261129"),
        ("in Sept.", " 202609."),
        ("2023-05-07", " 20230507"),
    ],
)
def test_days_in_words(text: str, asked: str) -> None:
    assert with_days(text, TODAY) == asked


@pytest.mark.parametrize(
    "text",
    [
        "may I ask",
        "march on",
        "version 3.2023",
        "a secondary",
        "999999 days ago",
        "in 2023",
        "on 7 May 2023",
        "2023-02-30",
        "",
    ],
)
def test_no_days(text: str) -> None:
    assert with_days(text, TODAY) == text


def test_the_words_of_a_day() -> None:
    assert date_words(TODAY) == "2026 november 26 thursday 20261126 202611"
