"""Days as words: under which words a day is found, and for which days a question asks.

The index holds `20260510` and `202605` with all of that day, beside its year, month, number and weekday.
A question that says `yesterday` or `last May` asks for such a word. English and ISO dates are understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta

_MONTHS = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
_DAYS_AGO = {"day before yesterday": 2, "yesterday": 1, "last night": 1, "this morning": 0, "today": 0}


def date_words(day: date) -> str:
    """The words under which a day is found."""
    month, weekday = _MONTHS[day.month - 1], _WEEKDAYS[day.weekday()]
    return f"{day.year} {month} {day.day} {weekday} {_span('day', day)} {_span('month', day)}"


def with_days(text: str, today: date) -> str:
    """`text` with words for the days it asks for: in place of `yesterday` and the like, behind a date."""
    for pattern, days in _FORMS:
        for match in pattern.finditer(text[:1000]):
            try:
                words = days(match, today)
            except (ValueError, OverflowError):  # the 31st of June, 999 years ago
                continue
            said = match[0] if days is _calendar else ""
            return f"{text[: match.start()]}{said} {words}{text[match.end() :]}"
    return text


def _span(unit: str, day: date) -> str:
    """The words for the day, week, weekend, month or year that holds `day`."""
    if unit == "year":
        return str(day.year)
    if unit == "month":
        return f"{day.year}{day.month:02}"
    monday = day - timedelta(day.weekday())
    days = {"day": [day], "week": [monday + timedelta(i) for i in range(7)]}
    days["weekend"] = days["week"][5:]
    return " ".join(f"{one.year}{one.month:02}{one.day:02}" for one in days[unit])


def _back(unit: str, count: int, today: date) -> str:
    """The words for what lies `count` days, weeks, weekends, months or years before today."""
    if unit in ("month", "year"):
        months = today.year * 12 + today.month - 1 - count * (12 if unit == "year" else 1)
        return _span(unit, date(months // 12, months % 12 + 1, 1))
    return _span(unit, today - timedelta(count if unit == "day" else 7 * count))


def _calendar(match: re.Match[str], today: date) -> str:
    """A day, or a month, of a given or of the latest year."""
    said = match.groupdict()
    name = match["month"].lower()
    month = next((number for number, full in enumerate(_MONTHS, 1) if full.startswith(name)), 0) or int(name)
    day = int(said.get("day") or 0)
    latest = today.year - ((month, day or 1) > (today.month, today.day))
    return _span("day" if day else "month", date(int(said.get("year") or latest), month, day or 1))


def _ago(match: re.Match[str], today: date) -> str:
    number = match["number"].lower()
    return _back(match["unit"].lower(), _NUMBERS.get(number) or int(number), today)


def _latest_weekday(match: re.Match[str], today: date) -> str:
    weekday = _WEEKDAYS.index(match["weekday"].lower())
    return _span("day", today - timedelta((today.weekday() - weekday - 1) % 7 + 1))


def _form(pattern: str, days: _Days) -> tuple[re.Pattern[str], _Days]:
    return re.compile(pattern, re.IGNORECASE | re.ASCII), days


_Days = Callable[[re.Match[str], date], str]
_Y, _D = r"(?P<year>(?:19|20)\d\d)", r"(?P<day>\d\d?)(?:st|nd|rd|th)?"
_M = rf"(?P<month>{'|'.join(_MONTHS)}|{'|'.join(month[:3] for month in _MONTHS)}|sept)"
_U, _N = r"(?P<unit>day|weekend|week|month|year)s?", rf"(?P<number>\d{{1,3}}|{'|'.join(_NUMBERS)})"
_FORMS = (
    _form(rf"\b{_Y}[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)\b", _calendar),
    _form(rf"\b{_D}\s+(?:of\s+)?{_M}\b\.?,?(?:\s+{_Y})?", _calendar),
    _form(rf"\b{_M}\b\.?\s+{_D}\b(?:,?\s+{_Y})?", _calendar),
    _form(rf"\b{_M}\b\.?,?\s+(?:of\s+)?{_Y}\b", _calendar),
    _form(rf"\b(?:in|last|past|this|since|during|of)\s+{_M}\b", _calendar),
    _form(rf"\b{_N}\s+{_U}\s+ago\b", _ago),
    _form(rf"\b(?:last|past|previous)\s+{_U}\b", lambda m, today: _back(m["unit"].lower(), 1, today)),
    _form(rf"\bthis\s+{_U}\b", lambda m, today: _back(m["unit"].lower(), 0, today)),
    _form(rf"\b(?:on|last|past|this)\s+(?P<weekday>{'|'.join(_WEEKDAYS)})\b", _latest_weekday),
    _form(
        rf"\b(?P<said>{'|'.join(_DAYS_AGO)})\b",
        lambda m, today: _back("day", _DAYS_AGO[m["said"].lower()], today),
    ),
)
