"""Takes over `cron/jobs.json` of the older nanobot, each job once. The file itself is never changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nanobot.config.json_text import loads
from nanobot.cron.jobs import Job, JobTable
from nanobot.cron.schedule import At, Schedule, next_run, parse_cron, parse_every, schedule_to_json
from nanobot.errors import ConfigError, ScheduleError
from nanobot.store.imports import known_imports
from nanobot.store.store import Store

log = logging.getLogger(__name__)

_NAME = "cron/jobs.json"
_WRONG = (ScheduleError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_READ_BY_0_2 = ("@hourly", "@daily", "@weekly", "@monthly")


async def import_jobs(store: Store, home: Path, now: float) -> list[Job]:
    """Add the jobs of the file below `home`, each once. Returns what cannot be read: that is tried anew
    each time, so a mended file or a newer nanobot takes it over.
    """
    entries = await asyncio.to_thread(lambda: list(_read(home / _NAME, now)))
    jobs = [(job, entry) for job, entry in entries if not job.fault]
    if jobs and _NAME in await store.database.read(known_imports, [_NAME]):
        # 0.2.0 took the file over as a whole, without what it could not read.
        jobs = [(job, entry) for job, entry in jobs if _was_left_out(entry["schedule"])]
    if added := await JobTable(store).insert([job for job, _ in jobs], imported=_NAME):
        log.warning("%d jobs of %s were taken over; see `nanobot cron list --all`.", added, home / _NAME)
    return [job for job, _ in entries if job.fault]


def unreadable_jobs(home: Path, now: float) -> list[Job]:
    """The jobs of the file below `home` that cannot be taken over as they are, each with its fault."""
    return [job for job, _ in _read(home / _NAME, now) if job.fault]


def _read(path: Path, now: float) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Every entry of the file as a job, beside what stands there."""
    if not path.is_file():
        return
    try:
        entries = list(loads(path.read_text("utf-8-sig"), str(path))["jobs"])
    except ConfigError as error:
        yield _unreadable("-", path.name, str(error)), {}
        return
    except (OSError, *_WRONG) as error:
        yield _unreadable("-", path.name, f"{path} cannot be read: {error!r}. Mend or remove it."), {}
        return
    seen: set[str] = set()
    for entry in entries:
        text = json.dumps(entry)
        about: dict[str, Any] = entry if isinstance(entry, dict) else {"name": text[:30]}
        job_id = str(about.get("id"))
        if not job_id.isalnum() or job_id in seen or job_id == "None":
            job_id = hashlib.sha256(text.encode()).hexdigest()[:8]
        seen.add(job_id)
        try:
            yield _job(job_id, entry, now), entry
        except _WRONG as error:
            reason = str(error) if isinstance(error, ScheduleError) else f"It makes no sense: {error!r}."
            yield _unreadable(job_id, str(about.get("name")), f"{reason} Mend or delete it in {path}."), {}


def _unreadable(job_id: str, name: str, fault: str) -> Job:
    return Job(job_id, name, "", {}, deliver=False, enabled=False, fault=fault)


def _job(job_id: str, entry: dict[str, Any], now: float) -> Job:
    payload, schedule = entry["payload"], _schedule(entry, now)
    done = isinstance(schedule, At) and (entry.get("state") or {}).get("lastRunAtMs") is not None
    enabled = entry.get("enabled", True) is True and not done
    next_at = schedule.at if isinstance(schedule, At) else next_run(schedule, now)
    chat = (payload.get("channel"), payload.get("to"))
    channel, chat_id = map(str, chat) if all(chat) else ("cli", "direct")
    message = str(payload["message"])
    return Job(
        id=job_id,
        name=str(entry.get("name") or message[:30]),
        message=message,
        schedule=schedule_to_json(schedule),
        channel=channel,
        chat_id=chat_id,
        deliver=payload.get("deliver") is True,
        enabled=enabled,
        next_at=next_at if enabled else None,
        created_at=now,
    )


def _schedule(entry: dict[str, Any], now: float) -> Schedule:
    data = entry["schedule"]
    match data["kind"]:
        case "at":
            return At(float(data["atMs"]) / 1000)
        case "every":
            anchor = float(entry.get("createdAtMs") or now * 1000) / 1000
            return parse_every(float(data["everyMs"]) / 1000, anchor=anchor)
        case "cron":
            return parse_cron(data["expr"], tz=data.get("tz"))
    raise ScheduleError(f"Its schedule is of the unknown kind {data['kind']!r}.")


def _was_left_out(schedule: dict[str, Any]) -> bool:
    if schedule["kind"] != "cron" or schedule["expr"].strip().lower() in _READ_BY_0_2:
        return False
    fields = schedule["expr"].upper().split()
    return len(fields) != 5 or parse_cron(schedule["expr"]).expr.split() != fields
