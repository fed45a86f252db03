"""Days as words: under which words a day is found, and for which days a question asks.

The index holds `20260510` and `202605` with all of that day, beside its year, month, number and weekday.
A question that says `yesterday` or `last May` asks for such a word. English and ISO dates are understood.
"""

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

_Y, _D = r"(?P<year>(?:19|20)\d\d)", r"(?P<day>\d\d?)(?:st|nd|rd|th)?"
_M = rf"(?P<month>{'|'.join(_MONTHS)}|{'|'.join(month[:3] for month in _MONTHS)}|sept)"
_U = r"(?P<unit>day|weekend|week|month|year)s?"
_FORMS = [
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"\b{_Y}[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)\b",
        rf"\b{_D}\s+(?:of\s+)?{_M}\b\.?,?(?:\s+{_Y})?",
        rf"\b{_M}\b\.?\s+{_D}\b(?:,?\s+{_Y})?",
        rf"\b{_M}\b\.?,?\s+(?:of\s+)?{_Y}\b",
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
    return f"{day.year} {month} {day.day} {weekday} {_span('day', day)} {_span('month', day)}"


def with_days(text: str, today: date) -> str:
    """`text` with words for the days it asks for: in place of `yesterday` and the like, behind a date."""
    for match in (match for form in _FORMS for match in form.finditer(text[:1000])):
        said = {name: part.lower() for name, part in match.groupdict().items() if part}
        try:
            words = _days(said, today)
        except (ValueError, OverflowError):  # the 31st of June, 999 years ago
            continue
        return f"{text[: match.start()]}{match[0] if 'month' in said else ''} {words}{text[match.end() :]}"
    return text


def _days(said: dict[str, str], today: date) -> str:
    """The words for what was said: a date, a number of units ago, a weekday, or a day such as `yesterday`."""
    if name := said.get("month"):  # of a given or of the latest year
        month = next((n for n, full in enumerate(_MONTHS, 1) if full.startswith(name)), 0) or int(name)
        day = int(said.get("day", 0))
        latest = today.year - ((month, day or 1) > (today.month, today.day))
        return _span("day" if day else "month", date(int(said.get("year", latest)), month, day or 1))
    if unit := said.get("unit"):
        number = said["number"]
        count = _NUMBERS[number] if number in _NUMBERS else int(number)
        if unit in ("month", "year"):
            months = today.year * 12 + today.month - 1 - count * (12 if unit == "year" else 1)
            return _span(unit, date(months // 12, months % 12 + 1, 1))
        return _span(unit, today - timedelta(count if unit == "day" else 7 * count))
    if weekday := said.get("weekday"):
        return _span("day", today - timedelta((today.weekday() - _WEEKDAYS.index(weekday) - 1) % 7 + 1))
    return _span("day", today - timedelta(_DAYS_AGO[said["day_ago"]]))


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
