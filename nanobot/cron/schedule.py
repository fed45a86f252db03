"""When a job runs: pure functions over three kinds of schedule, with no clock inside. Times are Unix seconds.

Cron expressions are read by `cronsim` as Debian cron reads them. Daylight saving is decided here, as cronsim
misses slots in zones that shift by half an hour: a job at fixed times (neither minute nor hour field starts
with `*`) runs right after the gap for a time that is skipped, and once for a time that comes twice; any other
follows the clock on the wall, so it never pauses for an hour.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanobot.errors import ScheduleError

_ALIASES = {
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    **{"@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0", "@hourly": "0 * * * *"},
}
_AROUND = re.compile(r"(?<![^,])(\d{1,2})-(\d{1,2})(?![^,])")
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))  # of the five fields
_LAST_ON = re.compile(r"\bL([0-7])")  # the last Friday is L5 for some, 5L for others
_BIGGEST_SHIFT = timedelta(hours=2)  # by which clocks are set back anywhere
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
    """Five fields, or six with the second last, in the IANA zone `tz` or, when None, the machine's."""

    expr: str
    tz: str | None = None


Schedule = At | Every | Cron


def parse_at(text: str) -> At:
    """ISO 8601 to `At`; without an offset it is the machine's time. Raises ScheduleError."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return At(_resolve(moment, None) if moment.tzinfo is None else moment.timestamp())
    except (ValueError, OverflowError, OSError) as error:
        raise ScheduleError(
            f"Cannot read the time {text!r}. Write it like 2026-05-01T09:00 or 2026-05-01T09:00+02:00."
        ) from error


def parse_every(seconds: float, *, anchor: float) -> Every:
    """An interval that starts counting at `anchor`. Raises ScheduleError for anything under a second."""
    if not 1 <= seconds < _LAST_SECOND:
        raise ScheduleError(f"A job cannot run every {seconds:g} seconds. Use one second or more.")
    return Every(seconds, anchor)


def parse_cron(expr: str, *, tz: str | None = None) -> Cron:
    """A checked cron expression, or `@daily` and its kind. Raises ScheduleError."""
    fields = _ALIASES.get(expr.strip().lower(), expr).split()
    second = fields[5:]
    if not 5 <= len(fields) <= 6 or not all(re.fullmatch("[0-5]?[0-9]", field) for field in second):
        also = f"one of {', '.join(_ALIASES)}, or a sixth field with the one second at which it runs"
        raise ScheduleError(
            f"The cron expression {expr!r} needs five fields, for example `0 9 * * 1-5`; {also}."
        )
    fields = ["*" if field == "?" else field for field in fields[:5]]
    fields[4] = _LAST_ON.sub(r"\1L", fields[4].upper())
    fields = [_unwound(field, *bounds) for field, bounds in zip(fields, _BOUNDS, strict=True)]
    _zone(tz or None)
    _walk(" ".join(fields), datetime(2000, 1, 1))
    return Cron(" ".join(fields + [field for field in second if int(field)]), tz or None)


def _unwound(field: str, first: int, last: int) -> str:
    """A field in which ranges over the end, such as the hours `22-2`, are two: cronsim wants that."""

    def parts(found: re.Match[str]) -> str:
        start, end = int(found[1]), int(found[2])
        return f"{start}-{last},{first}-{end}" if end < start <= last else found[0]

    return _AROUND.sub(parts, field)


def parse_one(every: float | None, cron: str, tz: str, at: str, now: float) -> Schedule:
    """The one of three kinds that is given; an interval starts counting `now`. Raises ScheduleError."""
    if sum((every is not None, bool(cron), bool(at))) != 1:
        raise ScheduleError("Say when: give exactly one of an interval, a cron expression and a time.")
    if tz and not cron:
        raise ScheduleError("A time zone goes with a cron expression only. Write the offset into the time.")
    if every is not None:
        return parse_every(every, anchor=now)
    return parse_cron(cron, tz=tz or None) if cron else parse_at(at)


def counted_from(schedule: Schedule, moment: float) -> Schedule:
    """The same schedule; an interval counts from `moment`."""
    return replace(schedule, anchor=moment) if isinstance(schedule, Every) else schedule


def next_run(schedule: Schedule, after: float) -> float | None:
    """The first slot later than `after`, or None when there is none. Raises ScheduleError."""
    match schedule:
        case At(at):
            return at if at > after else None
        case Every(seconds, anchor):
            count = max(1, math.floor((after - anchor) / seconds))
            # The division may be off by one in the last bit, so the product decides.
            slots = (anchor + n * seconds for n in itertools.count(count))
            return next(slot for slot in slots if slot > after)
        case Cron(expr, tz):
            *fields, second = [*expr.split(), "0"][:6]
            found = _next_minute(fields, _zone(tz), after - int(second))
            return None if found is None else found + int(second)


def slots_between(schedule: Schedule, after: float, until: float) -> Iterator[float]:
    """The slots in `after < slot <= until`, oldest first."""
    while (slot := next_run(schedule, after)) is not None and slot <= until:
        yield slot
        after = slot


def newest_slots(schedule: Schedule, first: float, now: float, most: int) -> list[float]:
    """The newest slots from the slot `first` to `now`, oldest first; cheap however long ago `first` was."""
    back = 1.0
    while (start := now - back) > first:
        slots = list(slots_between(schedule, start, now))
        if len(slots) >= most:
            return slots[-most:]
        back *= 2
    return [first, *slots_between(schedule, first, now)][-most:]


def schedule_to_json(schedule: Schedule) -> dict[str, Any]:
    """The stored form: `kind` (at, every or cron) and the fields."""
    return {"kind": type(schedule).__name__.lower(), **asdict(schedule)}


def schedule_from_json(data: Mapping[str, Any]) -> Schedule:
    """Inverse of `schedule_to_json`. Raises ScheduleError for what another version may have stored."""
    try:
        match data:
            case {"kind": "at", "at": at}:
                return At(float(at))
            case {"kind": "every", "seconds": seconds, "anchor": anchor}:
                return parse_every(float(seconds), anchor=float(anchor))
            case {"kind": "cron", "expr": str(expr), "tz": tz}:
                return parse_cron(expr, tz=tz)
    except (TypeError, ValueError, OverflowError) as error:
        raise ScheduleError(f"Its schedule {dict(data)} cannot be read: {error}.") from error
    raise ScheduleError(f"Its schedule {dict(data)} cannot be read by this nanobot.")


def _zone(tz: str | None) -> ZoneInfo | None:
    try:
        return None if tz is None else ZoneInfo(tz)
    except (ZoneInfoNotFoundError, TypeError, ValueError, OSError) as error:
        raise ScheduleError(
            f"There is no time zone {tz!r}. Use an IANA name such as Europe/Berlin or America/New_York."
        ) from error


def _next_minute(fields: list[str], zone: ZoneInfo | None, after: float) -> float | None:
    """The first instant after `after` at which a job of five fields runs.

    A wall time has one instant, two, or none: all that the clocks may show near the first are compared.
    """
    fixed = not fields[0].startswith("*") and not fields[1].startswith("*")
    found: list[float] = []
    for moment in _walk(" ".join(fields), _wall_time(zone, after) - _BIGGEST_SHIFT):
        instants = {moment.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1)}
        shown = [instant for instant in instants if _wall_time(zone, instant) == moment]
        slots = [_resolve(moment, zone)] if fixed else shown
        found += [slot for slot in slots if slot > after]
        if found and (fixed or moment > _wall_time(zone, min(found)) + _BIGGEST_SHIFT):
            break
    return min(found, default=None)


def _walk(expr: str, after: datetime) -> Iterator[datetime]:
    """The matching minutes after `after` of a calendar without daylight saving; ends after 50 dry years."""
    from cronsim import CronSim, CronSimError

    try:
        return iter(CronSim(expr, after))
    except CronSimError as error:
        raise ScheduleError(f"The cron expression {expr!r} is wrong: {str(error).lower()}.") from error


def _resolve(wall: datetime, zone: ZoneInfo | None) -> float:
    """The instant of a wall time: the first of two, and the end of the gap for a skipped one."""
    while True:
        instant = wall.replace(tzinfo=zone, fold=0).timestamp()
        if _wall_time(zone, instant) == wall:
            return instant
        wall = wall.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _wall_time(zone: ZoneInfo | None, instant: float) -> datetime:
    """What the clocks show. Without a zone, Python asks the system for the machine's."""
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None, fold=0)
