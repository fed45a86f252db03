"""Schedules against an oracle that walks every minute of a year and knows nothing of cronsim."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.cron.schedule import (
    At,
    Cron,
    Every,
    Schedule,
    newest_slots,
    next_run,
    parse_at,
    parse_cron,
    parse_every,
    schedule_from_json,
    schedule_to_json,
    slots_between,
)
from nanobot.errors import ScheduleError

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
EXPRESSIONS = [
    "30 2 * * *",
    "0,30 2 * * *",
    "15 1,2,3 * * *",
    "45 1 * * 0",
    "0 9 * * 1-5",
    "10 0 1,15 * 5",
    "5 2 */2 * *",
    "0 * * * *",
    "*/15 4 * * *",
    "*/20 1-3 * * *",
    "0 */6 * * *",
    "*/30 0-3 1-8,25-31 3,4,10,11 *",
]
MINUTE = timedelta(minutes=1)
YEAR_START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR_END = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the machine stood in Berlin."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def seconds(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@dataclass
class Tick:
    """One real minute: its Unix time, the clock on the wall, and the wall minutes that just came up."""

    epoch: int
    wall: datetime
    new: list[datetime]


def year_of_minutes(zone: ZoneInfo) -> Iterator[Tick]:
    return minutes_between(zone, int(YEAR_START.timestamp()), int(YEAR_END.timestamp()))


def minutes_between(zone: ZoneInfo, start: int, end: int) -> Iterator[Tick]:
    latest = datetime.fromtimestamp(start - 60, zone).replace(tzinfo=None, fold=0)
    for epoch in range(start, end, 60):
        wall = datetime.fromtimestamp(epoch, zone).replace(tzinfo=None, fold=0)
        new = []
        while latest < wall:
            latest += MINUTE
            new.append(latest)
        yield Tick(epoch, wall, new)


def expand(field: str, low: int, high: int) -> set[int]:
    values: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        start, end = (low, high) if span == "*" else (int(first), int(last or first))
        values.update(range(start, end + 1, int(step or 1)))
    return values


class Oracle:
    """Debian's rules, restated: which minutes an expression runs in."""

    def __init__(self, expr: str) -> None:
        minute, hour, day, month, weekday = expr.split()
        self.minutes = expand(minute, 0, 59)
        self.hours = expand(hour, 0, 23)
        self.days = expand(day, 1, 31)
        self.months = expand(month, 1, 12)
        self.weekdays = expand(weekday, 0, 7)
        self.both = day.startswith("*") or weekday.startswith("*")
        self.fixed = not minute.startswith("*") and not hour.startswith("*")
        self.slots: list[float] = []

    def matches(self, wall: datetime) -> bool:
        if wall.minute not in self.minutes or wall.hour not in self.hours or wall.month not in self.months:
            return False
        day, weekday = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return (day and weekday) if self.both else (day or weekday)

    def see(self, tick: Tick) -> None:
        walls = tick.new if self.fixed else [tick.wall]
        if any(self.matches(wall) for wall in walls):
            self.slots.append(float(tick.epoch))


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_has_no_slot_missed_or_doubled(zone: str) -> None:
    oracles = {expr: Oracle(expr) for expr in EXPRESSIONS}
    minutes = set().union(*(oracle.minutes for oracle in oracles.values()))
    for tick in year_of_minutes(ZoneInfo(zone)):
        if tick.wall.minute not in minutes and len(tick.new) == 1:
            continue  # nobody's minute: only saves time
        for oracle in oracles.values():
            oracle.see(tick)
    start, end = YEAR_START.timestamp() - 1, YEAR_END.timestamp() - 1
    for expr, oracle in oracles.items():
        assert list(slots_between(Cron(expr, zone), start, end)) == oracle.slots, expr


# Clocks that leave out a day, half an hour or two hours, and that go back at odd times.
TRANSITIONS = {
    "Pacific/Apia": "2011-12-30T10:00",
    "Australia/Lord_Howe": "2026-04-04T15:00",
    "Antarctica/Troll": "2026-03-29T01:00",
    "America/St_Johns": "2010-11-07T03:31",
    "Africa/Casablanca": "2026-02-15T02:00",
    "Europe/Dublin": "2026-10-25T01:00",
    "America/Sao_Paulo": "2018-11-04T03:00",
    "Asia/Beirut": "2026-03-28T22:00",
}
parts = st.sampled_from(["*/4", "*/7", "0", "1", "2", "3", "0,30", "1-3", "23"])
days = st.sampled_from([("*", "*"), ("*/2", "*"), ("*", "0-3"), ("1-7,25-31", "5"), ("*/2", "1-5")])


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(TRANSITIONS)), parts, parts, days)
def test_no_change_of_the_clocks_loses_or_doubles_a_slot(
    zone: str, minute: str, hour: str, day: tuple[str, str]
) -> None:
    hour = {"0,30": "*"}.get(hour, hour)
    oracle = Oracle(f"{minute} {hour} {day[0]} * {day[1]}")
    around = seconds(TRANSITIONS[zone])
    start, end = int(around - 18 * 3600), int(around + 18 * 3600)
    for tick in minutes_between(ZoneInfo(zone), start, end):
        oracle.see(tick)
    expr = f"{minute} {hour} {day[0]} * {day[1]}"
    assert list(slots_between(Cron(expr, zone), start - 1, end - 1)) == oracle.slots


def wall_times(schedule: Schedule, start: str, end: str) -> list[str]:
    slots = slots_between(schedule, seconds(start, "Europe/Berlin"), seconds(end, "Europe/Berlin"))
    return [datetime.fromtimestamp(slot, BERLIN).strftime("%d %H:%M%z") for slot in slots]


def test_a_fixed_time_in_the_gap_runs_right_after_it() -> None:
    job = Cron("30 2 * * *", "Europe/Berlin")
    assert wall_times(job, "2026-03-28T12:00", "2026-03-30T12:00") == ["29 03:00+0200", "30 02:30+0200"]


def test_a_fixed_time_in_the_repeated_hour_runs_once() -> None:
    job = Cron("30 2 * * *", "Europe/Berlin")
    assert wall_times(job, "2026-10-24T12:00", "2026-10-26T12:00") == ["25 02:30+0200", "26 02:30+0100"]


def test_an_hourly_job_never_pauses() -> None:
    job = Cron("0 * * * *", "Europe/Berlin")
    night = wall_times(job, "2026-10-25T01:30", "2026-10-25T03:30")
    assert night == ["25 02:00+0200", "25 02:00+0100", "25 03:00+0100"]


def test_a_leap_day_is_found_years_ahead_and_an_impossible_one_refused() -> None:
    assert next_run(Cron("0 0 29 2 *", "UTC"), seconds("2026-01-01")) == seconds("2028-02-29")
    with pytest.raises(ScheduleError, match="day-of-month"):
        parse_cron("0 0 30 2 *")


def test_a_wildcard_job_finds_the_first_of_two_equal_minutes_from_far_away() -> None:
    job = Cron("*/30 2 25 10 *", "Europe/Berlin")
    assert wall_times(job, "2026-01-01T00:00", "2026-12-31T00:00") == [
        "25 02:00+0200",
        "25 02:30+0200",
        "25 02:00+0100",
        "25 02:30+0100",
    ]


@pytest.mark.usefixtures("berlin")
def test_no_tz_means_the_machines_zone() -> None:
    for expr in ("0 15 * * *", "*/30 15 * * *"):
        assert next_run(Cron(expr), seconds("2026-06-01T12:00")) == seconds("2026-06-01T13:00")


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("expr", ["30 2 * * *", "0 * * * *", "*/20 1-3 * * *"])
@pytest.mark.parametrize("day", ["2026-03-27", "2026-10-23"])
def test_the_machines_zone_knows_daylight_saving(expr: str, day: str) -> None:
    start = seconds(day)
    end = start + 4 * 86_400
    named, own = (slots_between(Cron(expr, tz), start, end) for tz in ("Europe/Berlin", None))
    assert list(named) == list(own)


@pytest.mark.parametrize(
    ("alias", "expr"),
    [
        ("@hourly", "0 * * * *"),
        ("@Daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        (" @monthly ", "0 0 1 * *"),
        ("@YEARLY", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("0 9 ? * mon-fri", "0 9 * * MON-FRI"),
        ("0  9 * * * 00", "0 9 * * *"),
        ("0 9 * * L5,1#2", "0 9 * * 5L,1#2"),
    ],
)
def test_aliases_and_other_spellings(alias: str, expr: str) -> None:
    assert parse_cron(alias) == Cron(expr)


def test_a_sixth_field_is_the_second() -> None:
    job = parse_cron("30 2 * * * 15", tz="Europe/Berlin")
    start, end = seconds("2026-03-28T00:00"), seconds("2026-03-31T00:00")
    minutes = slots_between(parse_cron("30 2 * * *", tz="Europe/Berlin"), start - 15, end)
    assert list(slots_between(job, start, end)) == [slot + 15 for slot in minutes]
    assert next_run(job, seconds("2026-06-01T00:30:14")) == seconds("2026-06-01T00:30:15")
    assert next_run(job, seconds("2026-06-01T00:30:15")) == seconds("2026-06-02T00:30:15")


@pytest.mark.parametrize(
    ("expr", "tz", "words"),
    [
        ("0 9 * *", None, "five fields"),
        ("0 9 * * * */10", None, "one second"),
        ("0 9 * * * 60", None, "one second"),
        ("0 9 * * * 0 2026", None, "five fields"),
        ("@reboot", None, "'@reboot' needs"),
        ("0 0 9 * * *", None, "five fields"),
        ("@reboot", None, "five fields"),
        ("", None, "five fields"),
        ("61 9 * * *", None, "bad minute"),
        ("0 9 * * FOO", None, "bad day-of-week"),
        ("0 9 * * *", "Mars/Olympus", "IANA name"),
        ("0 9 * * *", "../../etc/passwd", "IANA name"),
        ("0 9 * * *", "/etc/passwd", "IANA name"),
    ],
)
def test_a_wrong_cron_expression_names_the_fix(expr: str, tz: str | None, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        parse_cron(expr, tz=tz)


@settings(deadline=None)
@given(
    st.lists(st.text(alphabet="0123456789*/,-#LWMONSUNJAN@?", max_size=5), max_size=6) | st.lists(st.text())
)
def test_any_text_is_a_schedule_or_a_schedule_error(words: list[str]) -> None:
    text = " ".join(words)
    for parse in (parse_cron, parse_at):
        with contextlib.suppress(ScheduleError):
            slot = next_run(parse(text), 0.0)
            assert slot is None or slot > 0.0


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01T09:00+05:30", seconds("2026-05-01T03:30")),
        ("2026-05-01T09:00:00Z", seconds("2026-05-01T09:00")),
        (" 2026-05-01 09:00", seconds("2026-05-01T07:00")),
        ("2026-03-29T02:30", seconds("2026-03-29T01:00")),
        ("2026-10-25T02:30", seconds("2026-10-25T00:30")),
    ],
)
def test_at_reads_iso_times(text: str, expected: float) -> None:
    assert parse_at(text) == At(expected)


@pytest.mark.parametrize("text", ["tomorrow", "", "2026-13-01T00:00", "0001-01-01T00:00"])
def test_at_refuses_the_rest(text: str) -> None:
    with pytest.raises(ScheduleError, match="Write it like"):
        parse_at(text)


def test_at_runs_once_and_never_when_past() -> None:
    assert next_run(At(100.0), 99.9) == 100.0
    assert next_run(At(100.0), 100.0) is None
    assert list(slots_between(At(100.0), 0, 1000)) == [100.0]
    assert list(slots_between(At(100.0), 0, 99)) == []


@pytest.mark.parametrize("interval", [0, 0.5, -3, float("nan"), float("inf")])
def test_every_needs_a_second(interval: float) -> None:
    with pytest.raises(ScheduleError, match="one second or more"):
        parse_every(interval, anchor=0)


def test_every_counts_from_its_anchor() -> None:
    job = Every(60, anchor=1000)
    assert next_run(job, 0) == 1060
    assert next_run(job, 1060) == 1120
    assert list(slots_between(job, 1060, 1240)) == [1120, 1180, 1240]


moments = st.floats(min_value=1.6e9, max_value=2.2e9)
schedules = st.one_of(
    st.builds(At, moments),
    st.builds(Every, st.floats(min_value=1, max_value=1e7), moments),
    st.builds(Cron, st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES)),
)


@settings(deadline=None)
@given(schedules, moments)
def test_next_run_moves_on_and_agrees_with_slots_between(schedule: Schedule, after: float) -> None:
    slots = list(itertools.islice(slots_between(schedule, after, float("inf")), 5))
    cursor = after
    for slot in slots:
        assert slot > cursor
        between = cursor + (slot - cursor) / 2
        # A start anywhere between two slots finds the same next one (unless they are one bit apart).
        assert between == slot or next_run(schedule, between) == slot
        cursor = slot
    assert next_run(schedule, after) == (slots[0] if slots else None)


@settings(deadline=None)
@given(schedules, moments, st.floats(min_value=0, max_value=3e5))
def test_the_newest_slots_are_the_last_ones_before_now(
    schedule: Schedule, start: float, passed: float
) -> None:
    first = next_run(schedule, start)
    if first is None:
        return
    now = first + passed
    expected = [first, *slots_between(schedule, first, now)] if _sparse(schedule) else None
    newest = newest_slots(schedule, first, now, 5)
    assert expected is None or newest == expected[-5:]
    following = next_run(schedule, newest[-1])
    assert newest[-1] <= now
    assert following is None or following > now


def _sparse(schedule: Schedule) -> bool:
    """Whether three days of it can be listed in no time."""
    return not isinstance(schedule, Every) or schedule.seconds > 600


def test_the_newest_slots_of_a_year_of_seconds_are_found_at_once() -> None:
    assert newest_slots(Every(1, 0), 1, 31_536_000.5, 2) == [31_535_999, 31_536_000]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "moon"},
        {"kind": "every", "seconds": 0, "anchor": 1},
        {"kind": "every", "seconds": "often", "anchor": 1},
        {"kind": "at", "at": None},
        {"kind": "cron", "expr": "61 * * * *", "tz": None},
        {"kind": "cron", "expr": "0 9 * * *", "tz": ["UTC"]},
    ],
)
def test_what_another_version_has_stored_is_no_crash(data: dict[str, object]) -> None:
    with pytest.raises(ScheduleError):
        schedule_from_json(data)


@given(schedules)
def test_json_keeps_a_schedule(schedule: Schedule) -> None:
    assert schedule_from_json(json.loads(json.dumps(schedule_to_json(schedule)))) == schedule
