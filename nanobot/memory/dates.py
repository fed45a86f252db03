"""Date words: the days a question speaks of, and the words under which a day is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

_MONTH_NAMES = [
    "january jan januar",
    "february feb februar",
    "march mar märz",
    "april apr",
    "may mai",
    "june jun juni",
    "july jul juli",
    "august aug",
    "september sep sept",
    "october oct oktober",
    "november nov",
    "december dec dezember",
]
_WEEKDAY_NAMES = [
    "monday montag",
    "tuesday dienstag",
    "wednesday mittwoch",
    "thursday donnerstag",
    "friday freitag",
    "saturday samstag",
    "sunday sonntag",
]
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, 1) for name in names.split()}
_WEEKDAYS = {name: number for number, names in enumerate(_WEEKDAY_NAMES) for name in names.split()}
_DAYS_AGO = {
    **dict.fromkeys(("today", "tonight", "this morning", "heute", "今天", "今日", "きょう"), 0),
    **dict.fromkeys(("yesterday", "last night", "gestern", "昨天", "昨日", "きのう"), 1),
    **dict.fromkeys(("day before yesterday", "vorgestern", "前天", "一昨日", "おととい"), 2),
}
_SPANS = {  # (unit, how many of them ago)
    **dict.fromkeys(("上周", "上週", "上星期", "先週"), ("week", 1)),
    **dict.fromkeys(("本周", "这周", "今週"), ("week", 0)),
    **dict.fromkeys(("上个月", "上個月", "先月"), ("month", 1)),
    **dict.fromkeys(("这个月", "本月", "今月"), ("month", 0)),
    **dict.fromkeys(("去年", "昨年"), ("year", 1)),
    **dict.fromkeys(("今年",), ("year", 0)),
}
_UNITS = {
    **dict.fromkeys(("day", "days", "tag", "tagen", "天", "日"), "day"),
    **dict.fromkeys(("week", "weeks", "woche", "wochen", "周", "星期", "週間"), "week"),
    **dict.fromkeys(("weekend", "wochenende"), "weekend"),
    **dict.fromkeys(("month", "months", "monat", "monaten", "个月", "か月", "ヶ月"), "month"),
    **dict.fromkeys(("year", "years", "jahr", "jahren", "年"), "year"),
}
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "einem": 1, "einer": 1, "zwei": 2, "drei": 3}
_LAST = r"(?:last|past|previous|letzte[nrsm]?)"
_THIS = r"(?:this|diese[nrsm]?)"


@dataclass(frozen=True, slots=True)
class Period:
    """The days from `start` to before `end`. `said`: the words that said so, when they mean nothing else."""

    start: date
    end: date
    said: str = ""


def date_words(day: date) -> str:
    """Under what a day is found: year, month, number of the day, weekday."""
    month, weekday = _MONTH_NAMES[day.month - 1].split()[0], _WEEKDAY_NAMES[day.weekday()].split()[0]
    return f"{day.year} {month} {day.day} {weekday}"


def period_of(text: str, today: date) -> Period | None:
    """The days `text` speaks of in English, German, Chinese or Japanese; None when it names none."""
    folded = text.casefold()[:1000]
    for pattern, read in _FORMS:
        for match in pattern.finditer(folded):
            try:
                if (found := read(match, today)) is not None:
                    return found
            except (ValueError, OverflowError):  # the 31st of June, the year 0
                continue
    return None


def _alternatives(names: dict[str, int] | dict[str, str] | dict[str, tuple[str, int]]) -> str:
    return "|".join(sorted(names, key=len, reverse=True))


def _full_date(match: re.Match[str], today: date) -> Period:
    """A day, or a month, of a given or of the latest year."""
    groups = match.groupdict()
    name = groups["month"]
    month = _MONTHS[name] if name in _MONTHS else int(name)
    day = int(groups.get("day") or 0)
    year = int(groups.get("year") or 0)
    if not year:
        year = today.year if (month, day or 1) <= (today.month, today.day) else today.year - 1
    return _day(date(year, month, day)) if day else _span("month", date(year, month, 1))


def _day(day: date, said: str = "") -> Period:
    return Period(day, day + timedelta(1), said)


def _span(unit: str, day: date, said: str = "") -> Period:
    """The week, weekend, month or year that holds `day`."""
    if unit == "year":
        return Period(date(day.year, 1, 1), date(day.year + 1, 1, 1), said)
    if unit == "month":
        first = day.replace(day=1)
        return Period(first, _months_later(first, 1), said)
    monday = day - timedelta(day.weekday())
    return Period(monday + timedelta(5 if unit == "weekend" else 0), monday + timedelta(7), said)


def _months_later(first: date, count: int) -> date:
    months = first.year * 12 + first.month - 1 + count
    return date(months // 12, months % 12 + 1, 1)


def _back(unit: str, count: int, today: date, said: str) -> Period:
    """The day, week, weekend, month or year that lies `count` of them before today."""
    if unit == "day":
        return _day(today - timedelta(count), said)
    if unit in ("week", "weekend"):
        return _span(unit, today - timedelta(7 * count), said)
    first = today.replace(day=1)
    return _span(unit, _months_later(first, -count * (12 if unit == "year" else 1)), said)


def _ago(match: re.Match[str], today: date) -> Period:
    number = match["number"]
    count = _NUMBERS[number] if number in _NUMBERS else int(number)
    return _back(_UNITS[match["unit"]], count, today, match[0])


def _latest_weekday(match: re.Match[str], today: date) -> Period:
    back = (today.weekday() - _WEEKDAYS[match["weekday"]] - 1) % 7 + 1
    return _day(today - timedelta(back), match[0])


def _form(
    pattern: str, read: Callable[[re.Match[str], date], Period | None]
) -> tuple[re.Pattern[str], Callable[[re.Match[str], date], Period | None]]:
    return re.compile(pattern), read


_M, _W, _U = _alternatives(_MONTHS), _alternatives(_WEEKDAYS), _alternatives(_UNITS)
_N = r"\d{1,3}|" + "|".join(_NUMBERS)
_YEAR = r"(?P<year>(?:19|20)\d\d)"
_FORMS = (
    _form(rf"\b{_YEAR}[-/.](?P<month>\d\d?)[-/.](?P<day>\d\d?)\b", _full_date),
    _form(rf"\b(?P<day>\d\d?)\.(?P<month>\d\d?)\.{_YEAR}\b", _full_date),
    _form(rf"(?:{_YEAR}\s*年\s*)?(?P<month>\d\d?)\s*月\s*(?:(?P<day>\d\d?)\s*[日号號])?", _full_date),
    _form(
        rf"\b(?P<day>\d\d?)(?:st|nd|rd|th|\.)?\s+(?:of\s+)?(?P<month>{_M})\b\.?,?(?:\s+{_YEAR})?", _full_date
    ),
    _form(rf"\b(?P<month>{_M})\b\.?\s+(?P<day>\d\d?)(?:st|nd|rd|th)?\b(?!\d)(?:,?\s+{_YEAR})?", _full_date),
    _form(rf"\b(?P<month>{_M})\b\.?,?\s+(?:of\s+)?{_YEAR}\b", _full_date),
    _form(rf"\b(?:in|im|{_LAST}|{_THIS}|since|seit|during|of|on|am)\s+(?P<month>{_M})\b", _full_date),
    _form(rf"\b(?P<number>{_N})\s+(?P<unit>{_U})\s+ago\b", _ago),
    _form(rf"\bvor\s+(?P<number>{_N})\s+(?P<unit>{_U})\b", _ago),
    _form(rf"(?P<number>\d{{1,3}})\s*(?P<unit>{_U})之?前", _ago),
    _form(rf"\b{_LAST}\s+(?P<unit>{_U})\b", lambda m, today: _back(_UNITS[m["unit"]], 1, today, m[0])),
    _form(rf"\b{_THIS}\s+(?P<unit>{_U})\b", lambda m, today: _back(_UNITS[m["unit"]], 0, today, m[0])),
    _form(rf"\b(?:on|am|{_LAST}|{_THIS})\s+(?P<weekday>{_W})\b", _latest_weekday),
    _form(
        rf"(?<![a-zß-ÿ])(?P<day>{_alternatives(_DAYS_AGO)})(?![a-zß-ÿ])",
        lambda m, today: _day(today - timedelta(_DAYS_AGO[m["day"]]), m[0]),
    ),
    _form(rf"{_alternatives(_SPANS)}", lambda m, today: _back(*_SPANS[m[0]], today, m[0])),
    _form(
        rf"(?<![\d.,/-]){_YEAR}(?:(?![\d.,/-]*\d)|\s*年)",
        lambda m, _: _span("year", date(int(m["year"]), 1, 1)),
    ),
)
