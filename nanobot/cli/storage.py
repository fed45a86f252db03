"""The parts of `nanobot status` that read the database."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict
from typing import Any

from nanobot import paths
from nanobot.config.schema import Config
from nanobot.cron.jobs import JobTable
from nanobot.errors import NanobotError
from nanobot.legacy.jobs_file import unreadable_jobs
from nanobot.legacy.sessions_file import left_out_sessions
from nanobot.memory.consolidation import Waiting, count_waiting
from nanobot.memory.files import open_files
from nanobot.store.store import Store


@asynccontextmanager
async def existing_store() -> AsyncIterator[Store | None]:
    """The database, or None when there is none yet."""
    if not paths.database_file().exists():
        yield None
        return
    async with aclosing(Store(paths.database_file())) as store:
        yield store


async def storage_report() -> dict[str, Any]:
    """How the database is, and what of sessions, deliveries and jobs is in it."""
    file = paths.database_file()
    storage: dict[str, Any] = {"path": str(file), "bytes": 0, "sessions": 0, "left_out": [], "error": ""}
    storage |= {"gateway_pid": None, "outbox": {"pending": 0, "parked": 0, "error": ""}}
    storage["jobs"] = {"enabled": 0, "failed": 0, "missed": 0, "unreadable": 0}
    try:
        async with existing_store() as store:
            if store is not None:
                (row,) = await store.database.rows("SELECT COUNT(*) FROM conversations")
                storage["sessions"] = row[0]
                older = (paths.home(), paths.home() / "workspace")
                storage["left_out"] = await left_out_sessions(store, *older)
                storage["bytes"] = file.stat().st_size
                storage["gateway_pid"] = await store.workers.leader()
                storage["outbox"] = await store.outbox.backlog()
                jobs = await JobTable(store).all()
                storage["jobs"] = {
                    "enabled": sum(job.enabled for job in jobs),
                    "failed": sum(job.last_status == "error" for job in jobs),
                    "missed": sum(job.missed for job in jobs),
                    "unreadable": sum(bool(job.fault) for job in jobs),
                }
    except NanobotError as error:
        storage["error"] = str(error)
    storage["jobs"]["unreadable"] += len(unreadable_jobs(paths.home(), time.time()))
    return storage


async def memory_report(config: Config) -> dict[str, Any]:
    """What waits to be consolidated, and what cannot be read in the memory files."""
    waiting, unreadable = Waiting(0, 0, 0, ""), list[str]()
    try:
        unreadable = open_files(config.workspace_path).complaints()
        async with existing_store() as store:
            if store is not None:
                waiting = await count_waiting(store, config.agents.defaults.memory_window)
    except NanobotError as error:
        waiting = Waiting(0, 0, 0, str(error))
    return {**asdict(waiting), "text": str(waiting), "unreadable": unreadable}
