"""The cron tool: reminders and recurring tasks of the current chat."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from nanobot.agent.tools import (
    TEXT,
    WHOLE_NUMBER,
    Tool,
    TurnContext,
    current_call_id,
    current_turn,
    object_schema,
)
from nanobot.errors import NanobotError, ToolError
from nanobot.store.store import Store

if TYPE_CHECKING:
    from nanobot.cron.jobs import Job, JobTable

TERMINAL = "cli"
_NAME = 30  # characters of the message that name a job


class CronTool(Tool):
    """A job's id comes from the call that adds it: when a crash makes the call run again, it adds once."""

    name = "cron"
    description = (
        "Reminders and recurring tasks of this chat. add: message and every_seconds, cron_expr or at."
    )
    parameters = object_schema(
        "action",
        action={**TEXT, "enum": ["add", "list", "remove"]},
        message={**TEXT, "description": "What to say or do when due"},
        every_seconds=WHOLE_NUMBER,
        cron_expr={**TEXT, "description": "Like 0 9 * * 1-5"},
        tz={**TEXT, "description": "IANA zone of cron_expr"},
        at={**TEXT, "description": "ISO time, once"},
        job_id=TEXT,
    )
    errors_are_text = False
    repeatable = True
    owner_only = True

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def _jobs(self) -> JobTable:
        from nanobot.cron.jobs import JobTable  # most turns schedule nothing

        return JobTable(self._store)

    async def execute(
        self,
        action: str,
        message: str = "",
        every_seconds: int = 0,
        cron_expr: str = "",
        tz: str = "",
        at: str = "",
        job_id: str = "",
    ) -> str:
        turn = current_turn()
        if action == "add":
            return await self._add(turn, message.strip(), every_seconds, cron_expr, tz, at)
        inbound, jobs = turn.inbound, await self._jobs.all()
        if inbound.channel != TERMINAL or inbound.source != "person":  # the owner sits in the terminal
            jobs = [job for job in jobs if (job.channel, job.chat_id) == (inbound.channel, inbound.chat_id)]
        if action == "list":
            return "\n".join(map(_line, jobs)) or "No jobs are scheduled."
        if job_id not in [job.id for job in jobs]:
            raise ToolError(f"This chat has no job {job_id!r}. The list action shows the ids.")
        await self._jobs.remove(job_id)
        return f"Removed job {job_id}."

    async def _add(
        self, turn: TurnContext, message: str, seconds: int, cron_expr: str, tz: str, at: str
    ) -> str:
        if turn.inbound.source != "person":
            raise ToolError(
                "Nobody has written in this turn, so it cannot schedule anything: do what is due."
            )
        if not message:
            raise ToolError("Give the message: what to say or do when the time comes.")
        from nanobot.cron.jobs import Job

        job = Job(
            id=hashlib.sha256(f"{turn.turn_id}:{current_call_id()}".encode()).hexdigest()[:8],
            name=message[:_NAME],
            message=message,
            schedule={},
            channel=turn.inbound.channel,
            chat_id=turn.inbound.chat_id,
            metadata=turn.inbound.metadata,
            is_group=turn.inbound.is_group,
            trust=turn.inbound.trust,
        )
        try:
            job = await self._jobs.add(job, every=seconds or None, cron=cron_expr, tz=tz, at=at)
        except NanobotError as error:
            raise ToolError(str(error)) from error
        note = ""
        if job.channel == TERMINAL:
            note = "\nIt goes to the owner's chat, or without one to the terminal where they next talk."
        if not await self._store.workers.leader():
            note += (
                "\nNo gateway runs now, and only a gateway serves schedules. Tell the owner to run"
                " `nanobot gateway install` (a service) or `nanobot gateway`."
            )
        return f"Added: {_line(job)}{note}"


def _line(job: Job) -> str:
    from nanobot.cron.jobs import next_run_text

    last = f", last run: {job.last_status}" if job.last_status else ""
    return f"{job.id} {job.name!r}, next run: {next_run_text(job)}{last}{job.fault and f', {job.fault}'}"
