"""Days as words: the index holds `20260510` and `202605` with all of that day, beside its year, month, number
and weekday; `yesterday` or `last May` in a question asks for such a word (English, and ISO dates)."""

from __future__ import annotations

import re
from datetime import date, timedelta

_MONTHS = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_NUMBERS = {"this": 0, "last": 1, "past": 1, "previous": 1, "a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
_DAYS_AGO = {"day before yesterday": 2, "yesterday": 1, "last night": 1, "this morning": 0, "today": 0}
_SPANS = {"day": range(1), "week": range(7), "weekend": range(5, 7)}  # a week's days begin on Monday

_M = rf"(?P<month>{'|'.join(_MONTHS)}|{'|'.join(month[:3] for month in _MONTHS)}|sept)"
_U = r"(?P<unit>day|weekend|week|month|year)s?"
_FORMS = [
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        r"\b(?P<iso>\d{4}-\d\d-\d\d)\b",
        rf"\b(?:in|last|past|this|since|during|of)\s+{_M}\b",
        rf"\b(?P<number>\d{{1,3}}|an?|one|two|three)\s+{_U}\s+ago\b",
        rf"\b(?P<number>last|past|previous|this)\s+{_U}\b",
        rf"\b(?:on|last|past|this)\s+(?P<weekday>{'|'.join(_WEEKDAYS)})\b",
        rf"\b(?P<day_ago>{'|'.join(_DAYS_AGO)})\b",
    )
]


def date_words(day: date) -> str:
    """The words under which a day is found."""
    month, weekday = _MONTHS[day.month - 1], _WEEKDAYS[day.weekday()]
    return f"{day.year} {month} {day.day} {weekday} {_digits(day)} {_digits(day)[:-2]}"


def with_days(text: str, today: date) -> str:
    """`text` with words for the days it asks for in place of `yesterday` and the like."""
    for match in (match for form in _FORMS for match in form.finditer(text[:1000])):
        said = {name: part.lower() for name, part in match.groupdict().items() if part}
        try:
            return f"{text[: match.start()]} {_days(said, today)}{text[match.end() :]}"
        except (ValueError, OverflowError):  # the 31st of June, 999 years ago
            continue
    return text


def _days(said: dict[str, str], today: date) -> str:
    """The words for what was said: a date, a month, a weekday, a day such as `today`, units of time ago."""
    if iso := said.get("iso"):
        return _digits(date.fromisoformat(iso))
    if name := said.get("month"):  # the latest one
        month = next(number for number, full in enumerate(_MONTHS, 1) if full.startswith(name))
        return _digits(date(today.year - (month > today.month), month, 1))[:-2]
    if weekday := said.get("weekday"):
        return _digits(today - timedelta((today.weekday() - _WEEKDAYS.index(weekday) - 1) % 7 + 1))
    if day_ago := said.get("day_ago"):
        return _digits(today - timedelta(_DAYS_AGO[day_ago]))
    unit, number = said["unit"], said["number"]
    count = _NUMBERS[number] if number in _NUMBERS else int(number)
    if unit in ("month", "year"):
        months = today.year * 12 + today.month - 1 - count * (12 if unit == "year" else 1)
        return _digits(date(months // 12, months % 12 + 1, 1))[: 4 if unit == "year" else -2]
    first = today - timedelta(count if unit == "day" else 7 * count + today.weekday())
    return " ".join(_digits(first + timedelta(day)) for day in _SPANS[unit])


def _digits(day: date) -> str:
    return day.isoformat().replace("-", "")
