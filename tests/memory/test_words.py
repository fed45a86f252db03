"""Words and days, as search compares them."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.memory.dates import date_words, period_of
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


@given(st.text(), st.dates())
def test_any_text_may_name_days(text: str, today: date) -> None:
    found = period_of(text, today)
    assert found is None or found.start < found.end
    assert len(date_words(today).split()) == 4


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("What did I do yesterday?", "2026-11-25", "2026-11-26"),
        ("the day before yesterday", "2026-11-24", "2026-11-25"),
        ("two weeks ago", "2026-11-09", "2026-11-16"),
        ("three months ago", "2026-08-01", "2026-09-01"),
        ("last week", "2026-11-16", "2026-11-23"),
        ("last Friday", "2026-11-20", "2026-11-21"),
        ("last Thursday", "2026-11-19", "2026-11-20"),
        ("last May", "2026-05-01", "2026-06-01"),
        ("in December", "2025-12-01", "2026-01-01"),
        ("in 2023", "2023-01-01", "2024-01-01"),
        ("on 7 May 2023", "2023-05-07", "2023-05-08"),
        ("on May 7th, 2023", "2023-05-07", "2023-05-08"),
        ("in May of 2023", "2023-05-01", "2023-06-01"),
        ("2023-05-07", "2023-05-07", "2023-05-08"),
        ("am 7. Mai 2023", "2023-05-07", "2023-05-08"),
        ("7.5.2023", "2023-05-07", "2023-05-08"),
        ("gestern", "2026-11-25", "2026-11-26"),
        ("vor drei Tagen", "2026-11-23", "2026-11-24"),
        ("letzten Monat", "2026-10-01", "2026-11-01"),
        ("昨天我们说了什么", "2026-11-25", "2026-11-26"),
        ("2023年5月7日", "2023-05-07", "2023-05-08"),
        ("先週の会議", "2026-11-16", "2026-11-23"),
        ("3天前", "2026-11-23", "2026-11-24"),
        ("去年", "2025-01-01", "2026-01-01"),
    ],
)
def test_days_in_words(text: str, start: str, end: str) -> None:
    found = period_of(text, TODAY)
    assert found is not None
    assert (str(found.start), str(found.end)) == (start, end)


@pytest.mark.parametrize(
    "text", ["may I ask", "march on", "version 3.2023", "31 April 2020", "a secondary", ""]
)
def test_no_days(text: str) -> None:
    found = period_of(text, TODAY)
    assert found is None or found.end.toordinal() - found.start.toordinal() > 27  # at most a whole month


def test_the_words_of_a_day() -> None:
    assert date_words(TODAY) == "2026 november 26 thursday"
