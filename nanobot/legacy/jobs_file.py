"""Takes over `cron/jobs.json` of the older nanobot, once. The file itself is never changed."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

from nanobot.cron.schedule import At, Schedule, next_run, parse_cron, parse_every, schedule_to_json
from nanobot.cron.table import Job, JobTable
from nanobot.errors import ScheduleError
from nanobot.store.store import Store

log = logging.getLogger(__name__)

_NAME = "cron/jobs.json"
_WRONG = (ScheduleError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


async def import_jobs(store: Store, home: Path, now: float) -> None:
    """Add the jobs of the file below `home`. Entries that make no sense are reported and left out."""
    path = home / _NAME
    if not await asyncio.to_thread(path.is_file):
        return
    jobs, problems = [], []
    try:
        for entry in json.loads(await asyncio.to_thread(path.read_text, "utf-8"))["jobs"]:
            try:
                jobs.append(_job(entry, now))
            except _WRONG as error:
                problems.append(f"{json.dumps(entry)[:200]}: {error!r}")
    except (OSError, *_WRONG) as error:
        log.warning("%s cannot be read: %r. Mend or remove it; its jobs are not taken over.", path, error)
        return
    if await JobTable(store.database).add(jobs, imported=_NAME):
        log.warning("%d jobs of %s were taken over; see `nanobot cron list --all`.", len(jobs), path)
        for problem in problems:
            log.warning("A job of %s was left out: %s", path, problem)


def _job(entry: dict[str, Any], now: float) -> Job:
    payload, schedule = entry["payload"], _schedule(entry, now)
    done = isinstance(schedule, At) and (entry.get("state") or {}).get("lastRunAtMs") is not None
    enabled = entry.get("enabled", True) is True and not done
    next_at = schedule.at if isinstance(schedule, At) else next_run(schedule, now)
    chat = (payload.get("channel"), payload.get("to"))
    if not str(entry["id"]).isalnum():
        raise ValueError("its id is no id")
    return Job(
        id=str(entry["id"]),
        name=str(entry["name"]),
        message=str(payload["message"]),
        schedule=schedule_to_json(schedule),
        channel=str(chat[0]) if all(chat) else "cli",
        chat_id=str(chat[1]) if all(chat) else "direct",
        deliver=payload.get("deliver") is True,
        enabled=enabled,
        next_at=next_at if enabled else None,
        created_at=now,
    )


def _schedule(entry: dict[str, Any], now: float) -> Schedule:
    data = entry["schedule"]
    match data["kind"]:
        case "at":
            return At(data["atMs"] / 1000)
        case "every":
            return parse_every(data["everyMs"] / 1000, anchor=(entry.get("createdAtMs") or now * 1000) / 1000)
        case "cron":
            return parse_cron(data["expr"], tz=data.get("tz"))
    raise ValueError("its schedule is of an unknown kind")
