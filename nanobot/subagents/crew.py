"""The subagents of a terminal: they run in its process, and their reports become turns of its session."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from nanobot.bus.events import (
    Notice,
    ToolStarted,
    TurnEvent,
    TurnFinished,
    TurnStarted,
    UsageReported,
    failed,
)
from nanobot.config.schema import Config
from nanobot.errors import NanobotError
from nanobot.messages import InboundMessage, Usage
from nanobot.store.store import Store
from nanobot.subagents.orders import Progress, Subagents

_STOPPED = TurnFinished("cancelled", "", Usage())
_TOGETHER = 0.3  # seconds that a report waits for others, to be told in one turn


@dataclass(frozen=True, slots=True)
class SubagentChanged:
    """How a subagent of the terminal's session goes. `state` is as in `SubagentInfo`; `tool` is what it runs.

    `text` is what it reports when it has ended: its result, or why there is none.
    """

    id: str
    label: str
    profile: str
    state: str
    tool: str = ""
    seconds: float = 0.0
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    text: str = ""
    type: Literal["subagent"] = "subagent"


class Run(Protocol):
    """`App.run`."""

    def __call__(
        self, text: str, *, session_key: str, about: InboundMessage | None = None
    ) -> AsyncGenerator[TurnEvent, None]: ...


@dataclass
class _Worker:
    """A subagent that waits, runs, or has a report that nobody was told."""

    order: InboundMessage
    label: str
    profile: str
    task: asyncio.Task[None]
    started: float = field(default_factory=time.monotonic)
    state: str = "waiting"
    report: InboundMessage | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def session(self) -> str:
        """The session that asked."""
        return self.order.reply_to.session_key if self.order.reply_to else ""


class Crew:
    """Runs the subagents that the turns of this process spawn; `show` is told how they go."""

    def __init__(self, run: Run, config: Config, store: Store, subagents: Subagents) -> None:
        self._run_turn = run
        self._store = store
        self._subagents = subagents
        self._room = asyncio.Semaphore(config.agents.defaults.max_concurrent_subagents)
        self._workers: dict[str, _Worker] = {}
        self._changed = asyncio.Event()
        self.show: Callable[[SubagentChanged], None] = lambda change: None
        subagents.launch = self._launch

    @property
    def labels(self) -> list[str]:
        """Those that have not ended."""
        return [worker.label for worker in self._workers.values() if not worker.report]

    def status(self) -> str:
        """Those that have not ended in one line, each with what it does; empty when there are none."""
        now = time.monotonic()
        return "   ".join(
            f"{worker.label}: {worker.progress.tool or worker.state} {now - worker.started:.0f}s"
            for worker in self._workers.values()
            if not worker.report
        )

    @property
    def busy(self) -> bool:
        """Whether there is somebody to wait for, or a report to be told."""
        return bool(self._workers)

    @property
    def ready(self) -> bool:
        """Whether a report waits to be told."""
        return any(worker.report for worker in self._workers.values())

    async def until_ready(self) -> None:
        """Wait for the next report."""
        while not self.ready:
            self._changed.clear()
            await self._changed.wait()

    async def stop(self, session: str = "", ids: Collection[str] | None = None) -> list[str]:
        """Stop these subagents of a session (None: all, silently), by default of all sessions.

        Returns the ids of those that had not ended.
        """
        chosen = {
            key: worker
            for key, worker in self._workers.items()
            if (ids is None or key in ids) and not worker.report and session in ("", worker.session)
        }
        if not chosen:
            return []
        tasks = [worker.task for worker in chosen.values()]
        try:
            stopped = []
            for parent in {worker.session for worker in chosen.values()}:
                stopped += await self._store.subagents.cancel(parent, list(chosen))
            return stopped
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            if ids is None:  # then nobody is to be told
                self._workers = {key: one for key, one in self._workers.items() if key not in chosen}

    async def turn(
        self, text: str, session: str, reports: Sequence[InboundMessage] = ()
    ) -> AsyncGenerator[TurnEvent, None]:
        """`App.run`; when the turn is stopped, so are all subagents."""
        turn = self._run_turn(text, session_key=session, about=reports[0] if reports else None)
        async with contextlib.aclosing(turn) as events:
            async for event in events:
                if isinstance(event, TurnFinished) and event.stop_reason == "cancelled":
                    await self.stop(session)
                yield event

    async def follow_up(self, session: str) -> AsyncGenerator[TurnEvent, None]:
        """Wait for reports and run the turn that tells them. Cancelling it stops all subagents."""
        try:
            await self.until_ready()
            await asyncio.sleep(_TOGETHER)
        except asyncio.CancelledError:
            if task := asyncio.current_task():
                task.uncancel()
            await self.stop(session)
            yield _STOPPED
            return
        told = self._take_reports()
        reports = [worker.report for worker in told if worker.report]
        usage = sum((worker.progress.usage for worker in told), Usage())
        text = "\n\n".join(report.text for report in reports)
        async with contextlib.aclosing(self.turn(text, told[0].session, reports)) as events:
            async for event in events:
                if isinstance(event, TurnFinished):
                    await self._store.subagents.settle([worker.order.chat_id for worker in told])
                    event = replace(event, usage=event.usage + usage)
                yield event

    def _take_reports(self) -> list[_Worker]:
        """The reports for one turn: those of subagents that the same turn began."""
        ready = [worker for worker in self._workers.values() if worker.report]
        family = ready[0].order.family
        told = [worker for worker in ready if worker.order.family == family]
        for worker in told:
            del self._workers[worker.order.chat_id]
        return told

    # -- running them

    def _launch(self, order: InboundMessage, label: str, profile: str) -> None:
        worker = _Worker(order, label, profile, asyncio.create_task(self._run(order), name=order.session_key))
        self._workers[order.chat_id] = worker
        self._tell(worker)

    async def _run(self, order: InboundMessage) -> None:
        notice, finished = "", failed(NanobotError("Something went wrong inside nanobot; see its log."))
        try:
            async with self._room, contextlib.aclosing(self._turn(order)) as events:
                async for event in events:
                    if isinstance(event, Notice):
                        notice = event.text
                    elif isinstance(event, TurnFinished):
                        finished = event
                    self._note(self._workers[order.chat_id], event)
        except asyncio.CancelledError:
            finished = _STOPPED
            raise
        except NanobotError as error:
            finished = failed(error)
        finally:
            await self._ended(order, finished, notice)

    def _turn(self, order: InboundMessage) -> AsyncGenerator[TurnEvent, None]:
        return self._run_turn(order.text, session_key=order.session_key, about=order)

    def _note(self, worker: _Worker, event: TurnEvent) -> None:
        self._subagents.observe(worker.order, event)
        worker.progress = self._subagents.progress.get(worker.order.chat_id, worker.progress)
        if isinstance(event, TurnStarted):
            worker.state, worker.started = "running", time.monotonic()
        if isinstance(event, TurnStarted | ToolStarted | UsageReported):
            self._tell(worker)

    async def _ended(self, order: InboundMessage, finished: TurnFinished, notice: str) -> None:
        worker = self._workers[order.chat_id]
        worker.state = finished.stop_reason
        try:
            worker.report = await self._subagents.report(order, finished, notice)
        except NanobotError as error:  # what it had so far cannot be read
            unread = replace(finished, stop_reason="done", text=f"It failed: {finished.error} {error}")
            worker.report = await self._subagents.report(order, unread, "")
        self._tell(worker, finished.error or finished.text)
        self._changed.set()

    def _tell(self, worker: _Worker, text: str = "") -> None:
        progress = worker.progress
        self.show(
            SubagentChanged(
                worker.order.chat_id,
                worker.label,
                worker.profile,
                worker.state,
                progress.tool,
                round(time.monotonic() - worker.started, 3),
                progress.calls,
                progress.usage,
                text,
            )
        )
