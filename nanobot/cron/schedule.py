"""When a job runs: pure functions over three kinds of schedule, with no clock inside.

All times are Unix seconds. Cron expressions have five fields and are read by `cronsim` as Debian
cron reads them; what daylight saving does to them is decided here (cronsim only walks the calendar,
because its own handling misses slots in zones that shift by half an hour):

* A job at fixed times (neither minute nor hour field starts with `*`) runs once a day for each of
  its times. A time that the clocks skip runs right after the gap; a time that comes twice runs the
  first time only.
* A job with a wildcard minute or hour (`*/5 * * * *`, `0 * * * *`) follows the clock on the wall:
  skipped times do not run, repeated times run twice, so it never pauses for an hour.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanobot.errors import ScheduleError

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MINUTE = timedelta(minutes=1)
_DAY = 86_400
_LAST_SECOND = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class At:
    """Once, at `at`."""

    at: float


@dataclass(frozen=True, slots=True)
class Every:
    """At `anchor + seconds`, `anchor + 2 * seconds`, and so on."""

    seconds: float
    anchor: float


@dataclass(frozen=True, slots=True)
class Cron:
    """A five-field cron expression in the IANA zone `tz`, or in the machine's zone when None."""

    expr: str
    tz: str | None = None


Schedule = At | Every | Cron


def parse_at(text: str, *, tz: str | None = None, local: ZoneInfo | None = None) -> At:
    """ISO 8601 to `At`. A time without offset is in `tz`, else in `local`, else in the machine's zone.

    A local time the clocks skip moves to the end of the gap, one that comes twice means the first.
    Raises ScheduleError.
    """
    zone = _zone(tz, local)
    try:
        moment = datetime.fromisoformat(text.strip())
        at = _resolve(moment, zone) if moment.tzinfo is None else moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise ScheduleError(
            f"Cannot read the time {text!r}. Write it like 2026-05-01T09:00 or 2026-05-01T09:00+02:00."
        ) from error
    return At(at)


def parse_every(seconds: float, *, anchor: float) -> Every:
    """An interval that starts counting at `anchor`. Raises ScheduleError for anything under a second."""
    if not math.isfinite(seconds) or not 1 <= seconds < _LAST_SECOND:
        raise ScheduleError(f"A job cannot run every {seconds:g} seconds. Use one second or more.")
    return Every(seconds, anchor)


def parse_cron(expr: str, *, tz: str | None = None) -> Cron:
    """A checked cron expression (or `@daily` and its kind). Raises ScheduleError."""
    fields = _ALIASES.get(expr.strip().lower(), expr).split()
    if len(fields) != 5:
        raise ScheduleError(
            f"The cron expression {expr!r} needs five fields: minute hour day month weekday, "
            "for example `0 9 * * 1-5`."
        )
    schedule = Cron(" ".join(fields), tz or None)
    if schedule.tz is not None:
        _zone(schedule.tz, None)
    _walk(schedule.expr, datetime(2000, 1, 1))
    return schedule


def next_run(schedule: Schedule, after: float, *, local: ZoneInfo | None = None) -> float | None:
    """The first slot later than `after`, or None when there is none.

    `local` is the zone of a `Cron` without `tz`; None detects the machine's. Raises ScheduleError.
    """
    match schedule:
        case At(at):
            return at if at > after else None
        case Every():
            return _next_interval(schedule, after)
        case Cron(expr, tz):
            return _next_cron(expr, _zone(tz, local), after)


def slots_between(
    schedule: Schedule, after: float, until: float, *, local: ZoneInfo | None = None, limit: int = 1000
) -> Iterator[float]:
    """The slots in `after < slot <= until`, oldest first, at most `limit` of them."""
    for _ in range(limit):
        slot = next_run(schedule, after, local=local)
        if slot is None or slot > until:
            return
        yield slot
        after = slot


def schedule_to_json(schedule: Schedule) -> dict[str, Any]:
    """The layout of `cron/jobs.json` (times in milliseconds), plus `anchorMs` for intervals."""
    match schedule:
        case At(at):
            return {"kind": "at", "atMs": round(at * 1000)}
        case Every(seconds, anchor):
            return {"kind": "every", "everyMs": round(seconds * 1000), "anchorMs": round(anchor * 1000)}
        case Cron(expr, tz):
            return {"kind": "cron", "expr": expr, "tz": tz}


def schedule_from_json(data: Mapping[str, Any], *, anchor: float = 0.0) -> Schedule:
    """Inverse of `schedule_to_json`. `anchor` serves intervals stored without one (older files).

    Raises ScheduleError.
    """
    kind = data.get("kind")
    if kind == "at":
        return At(_milliseconds(data, "atMs"))
    if kind == "every":
        started = anchor if data.get("anchorMs") is None else _milliseconds(data, "anchorMs")
        return parse_every(_milliseconds(data, "everyMs"), anchor=started)
    if kind == "cron":
        return parse_cron(_text(data, "expr"), tz=None if data.get("tz") is None else _text(data, "tz"))
    raise ScheduleError(f"A stored schedule has the kind {kind!r}. It must be at, every or cron.")


def local_zone() -> ZoneInfo:
    """The machine's zone: `$TZ`, else where /etc/localtime points, /etc/timezone, its copy, or UTC."""
    localtime, timezone = Path("/etc/localtime"), Path("/etc/timezone")
    names = [os.environ.get("TZ", "").lstrip(":"), str(localtime.resolve()).partition("zoneinfo/")[2]]
    if timezone.is_file():
        names.append(timezone.read_text(encoding="utf-8", errors="replace").strip())
    for name in filter(None, names):
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    if localtime.is_file():  # a copy, as small systems have
        with localtime.open("rb") as file:
            return ZoneInfo.from_file(file)
    return ZoneInfo("UTC")


def _zone(tz: str | None, local: ZoneInfo | None) -> ZoneInfo:
    if tz is None:
        return local or local_zone()
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"There is no time zone {tz!r}. Use an IANA name such as Europe/Berlin or America/New_York."
        ) from error


def _milliseconds(data: Mapping[str, Any], key: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ScheduleError(f"A stored schedule has {key} = {value!r}. It must be a number of milliseconds.")
    return value / 1000


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise ScheduleError(f"A stored schedule has {key} = {value!r}. It must be a text.")
    return value


def _next_interval(schedule: Every, after: float) -> float:
    count = max(1, math.floor((after - schedule.anchor) / schedule.seconds))
    # The division may be off by one in the last bit, so the product decides.
    return next(
        slot
        for slot in (schedule.anchor + n * schedule.seconds for n in itertools.count(count))
        if slot > after
    )


def _next_cron(expr: str, zone: ZoneInfo, after: float) -> float | None:
    minute, hour, *_ = expr.split()
    if minute.startswith("*") or hour.startswith("*"):
        return _next_on_the_wall(expr, zone, after)
    for moment in _walk(expr, _wall_time(zone, after)):
        slot = _resolve(moment, zone)
        if slot > after:
            return slot
    return None


def _next_on_the_wall(expr: str, zone: ZoneInfo, after: float) -> float | None:
    """The next matching minute, walking from one change of the zone's offset to the next."""
    start = after
    wall = _wall_time(zone, after)
    while True:
        moment = next(_walk(expr, wall), None)
        if moment is None:
            return None
        slot = moment.replace(tzinfo=UTC).timestamp() - _offset(zone, start)
        change = _offset_change(zone, start, slot)
        if change is None:
            return slot
        start = change
        wall = _wall_time(zone, change) - timedelta(seconds=1)


def _walk(expr: str, after: datetime) -> Iterator[datetime]:
    """The matching minutes after `after` of a calendar without daylight saving; ends after 50 dry years."""
    from cronsim import CronSim, CronSimError

    try:
        return iter(CronSim(expr, after))
    except CronSimError as error:
        raise ScheduleError(
            f"The cron expression {expr!r} is wrong: {str(error).lower()}. "
            "The fields are minute hour day month weekday, for example `0 9 * * 1-5`."
        ) from error


def _resolve(wall: datetime, zone: ZoneInfo) -> float:
    """The instant of a wall time: the first of two, and the end of the gap for a skipped one."""
    while True:
        instant = wall.replace(tzinfo=zone, fold=0).timestamp()
        if _wall_time(zone, instant) == wall:
            return instant
        wall = wall.replace(second=0, microsecond=0) + _MINUTE


def _wall_time(zone: ZoneInfo, instant: float) -> datetime:
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None, fold=0)


def _offset(zone: ZoneInfo, instant: float) -> float:
    offset = datetime.fromtimestamp(instant, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def _offset_change(zone: ZoneInfo, start: float, end: float) -> float | None:
    """The first instant in (start, end] whose offset differs from that of `start`, in whole seconds."""
    offset = _offset(zone, start)
    low = start
    while low < end:
        high = min(low + _DAY, end)
        if _offset(zone, high) != offset:
            break
        low = high
    else:
        return None
    first, last = math.floor(low), math.ceil(high)
    while last - first > 1:
        middle = (first + last) // 2
        first, last = (middle, last) if _offset(zone, middle) == offset else (first, middle)
    return float(last)
