"""`nanobot cron`: scheduled jobs. A running gateway notices every change within a second."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from nanobot import paths
from nanobot.cli.completion import names_of
from nanobot.cli.options import Json, new_app, print_result, runs
from nanobot.columns import table
from nanobot.cron.jobs import Job, JobTable, next_run_text
from nanobot.errors import ScheduleError, UsageError
from nanobot.legacy.jobs_file import import_jobs
from nanobot.store.store import Store
from nanobot.terminal.options import load_and_warn
from nanobot.terminal.screen import complain, one_line

app = new_app()
_NO_JOBS = "No jobs. Add one: nanobot cron add --name daily --message 'Good morning!' --cron '0 9 * * *'"
JobId = Annotated[
    str,
    typer.Argument(metavar="ID", help="As `nanobot cron list` shows it.", autocompletion=names_of("jobs")),
]


@runs(app, "add")
async def add(
    name: Annotated[str, typer.Option("--name", "-n", help="What to call the job.")],
    message: Annotated[str, typer.Option("--message", "-m", help="What the assistant is told.")],
    every: Annotated[int | None, typer.Option("--every", "-e", help="Run every so many seconds.")] = None,
    cron: Annotated[str, typer.Option("--cron", "-c", help="Cron expression, like '0 9 * * 1-5'.")] = "",
    tz: Annotated[str, typer.Option(help="IANA zone of the cron expression.")] = "",
    at: Annotated[str, typer.Option(help="Run once, at this ISO time.")] = "",
    deliver: Annotated[bool, typer.Option("--deliver", "-d", help="Send the answer to the chat.")] = False,
    to: Annotated[str, typer.Option(help="Chat id to send it to.")] = "",
    channel: Annotated[str, typer.Option(help="Channel of that chat, for example telegram.")] = "",
) -> None:
    """Add a job, with one of --every, --cron and --at."""
    _check_target(deliver, channel, to)
    job = Job("", name, message, {}, channel or "cli", to or "direct", deliver)
    async with _open_jobs() as jobs:
        try:
            job = await jobs.add(job, every=every, cron=cron, tz=tz, at=at)
        except ScheduleError as error:
            flags = "--every SECONDS, --cron '0 9 * * *' (with --tz ZONE) or --at 2030-01-31T09:00"
            raise UsageError(f"{error} Flags: {flags}.") from error
        gateway = await jobs.store.workers.leader()
    print(f"Added job {job.id}, next run {next_run_text(job)}.")
    if not deliver:
        print(f"Its output stays in the session cron:{job.id}; --deliver --channel NAME --to CHAT sends it.")
    if not gateway:
        complain(_no_gateway())


@runs(app, "list")
async def list_jobs(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also the disabled ones.")] = False,
    json_output: Json = False,
) -> None:
    """List jobs with their next and their last run."""
    async with _open_jobs() as stored:
        jobs, gateway = await stored.all(), await stored.store.workers.leader()
    shown = [job for job in jobs if everything or job.enabled or job.fault or job.last_status == "skipped"]
    lines = _table(shown) if shown else [_NO_JOBS]
    if len(jobs) > len(shown):
        lines.append(f"Disabled: {len(jobs) - len(shown)} more; --all shows them.")
    print_result([dataclasses.asdict(job) for job in shown], lines, json_output)
    if shown:
        complain(f"The gateway runs (process {gateway})." if gateway else _no_gateway())


@runs(app, "remove")
async def remove_job(job_id: JobId) -> None:
    """Remove a job."""
    async with _open_jobs() as jobs:
        job = await jobs.remove(job_id)
    print(f"Removed job {job.id} ({job.name}).")


@runs(app, "enable")
async def enable(
    job_id: JobId, disable: Annotated[bool, typer.Option("--disable", help="Disable it instead.")] = False
) -> None:
    """Enable a job, or disable it."""
    async with _open_jobs() as jobs:
        job = await jobs.enable(job_id, not disable)
    print(f"Job {job.id} ({job.name}): " + ("disabled." if disable else f"next run {next_run_text(job)}."))


@runs(app, "run")
async def run(
    job_id: JobId,
    force: Annotated[bool, typer.Option("--force", "-f", help="Also when it is disabled.")] = False,
) -> None:
    """Run a job now, in the running gateway."""
    async with _open_jobs() as jobs:
        job = await jobs.run_now(job_id, force=force)
    print(f"Job {job.id} ({job.name}) runs now; `nanobot session show cron:{job.id}` shows what it says.")


@contextlib.asynccontextmanager
async def _open_jobs() -> AsyncIterator[JobTable]:
    """The jobs of this home, those of an older nanobot included."""
    async with contextlib.aclosing(Store(paths.database_file())) as store:
        left_out = await import_jobs(store, paths.home(), time.time())
        yield JobTable(store, left_out=left_out)


def _no_gateway() -> str:
    command = f"{paths.program()} gateway"
    return f"No gateway runs, and jobs need one: `{command} install` (a service) or `{command}`."


def _check_target(deliver: bool, channel: str, to: str) -> None:
    """Raises UsageError when the answers could not be delivered."""
    if bool(channel) != bool(to) or (deliver and not to):
        raise UsageError("To deliver, say where: --deliver --channel NAME --to CHAT.")
    if channel and channel not in (enabled := load_and_warn().config.channels.enabled()):
        names = ", ".join(enabled) or "none"
        raise UsageError(f"The channel {channel} is not enabled in config.json; enabled: {names}.")


def _table(jobs: list[Job]) -> list[str]:
    rows = [["ID", "NAME", "SCHEDULE", "NEXT RUN", "TO", "LAST RUN", "MESSAGE"]]
    for job in jobs:
        target = f"{job.channel}:{job.chat_id}" if job.deliver else "-"
        missed = f"{job.missed} missed" if job.missed else ""
        parts = job.last_status, job.last_error, missed, job.fault and "cannot be read"
        last = ", ".join(filter(None, parts)) or "-"
        cells = (job.id, job.name, _schedule(job), next_run_text(job), target, last, job.message)
        rows.append([one_line(cell, 60) for cell in cells])
    return [*table(rows, widest=100), *(f"{job.id}: {job.fault}" for job in jobs if job.fault)]


def _schedule(job: Job) -> str:
    match job.schedule:
        case {"kind": "every", "seconds": seconds}:
            return f"every {seconds:g} s"
        case {"kind": "cron", "expr": expr, "tz": tz}:
            return f"{expr} {tz or time.tzname[0]}"
    return "-" if job.fault else "once"
