"""From the inbox to turns: one lane a session, several lanes at once, nothing lost on the way.

A gateway's dispatcher can be killed at any moment: a claimed turn is taken over and resumed. A terminal's
works on what that terminal has submitted and on nothing else; nobody takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

from nanobot.agent.assistant import Assistant
from nanobot.bus.events import Notice, TurnEvent, TurnFinished, failed
from nanobot.bus.hub import Hub, wait_for
from nanobot.errors import HomeUnusable, NanobotError, StorageError, TurnTakenOver
from nanobot.messages import InboundMessage, Usage
from nanobot.store.records import InboxTurn
from nanobot.store.workers import RENEW

log = logging.getLogger(__name__)

_STOPPED = TurnFinished("cancelled", "", Usage())
_MOST_TAKEOVERS = 50  # a turn whose worker died this often is what kills it
_STORAGE_PAUSE = 5.0  # seconds before the store is tried again after it failed
_DISK_TROUBLE = (StorageError.__name__, HomeUnusable.__name__)
_BLOCKED_PAUSE = 0.25  # seconds between two looks at a lane that another process holds


class _Running(NamedTuple):
    """A turn at work. `work` may be cancelled, `serving` closes the turn behind it and never is."""

    turn: InboxTurn
    work: asyncio.Task[None]
    serving: asyncio.Task[None]


class Dispatcher:
    """Runs accepted messages, so many turns of chats and of subagents at once as the configuration says.

    A gateway sets `run_command`, which answers slash commands, and `fetch_attachments`, which gives a
    message with its files on disk.
    """

    def __init__(self, assistant: Assistant, hub: Hub) -> None:
        self._assistant = assistant
        self._hub = hub
        self._store = assistant.store
        self._subagents = assistant.subagents
        self.run_command: Callable[[InboundMessage], Awaitable[str | None]] | None = None
        self.fetch_attachments: Callable[[InboundMessage], Awaitable[InboundMessage]] | None = None
        self._owner = ""
        self._running: dict[int, _Running] = {}  # by the number of the turn
        # Turns that the disk has failed: how they ended, and what was said beside the answer.
        self._unclosed: list[tuple[InboxTurn, TurnFinished, Sequence[str]]] = []
        self._stopped: set[str] = set()  # sessions whose /stop was not answered yet
        self.idle = asyncio.Event()  # set when nothing runs or waits
        self._blocked = False
        self._draining = False
        self._handed_over = assistant.handed_over

    @property
    def running(self) -> int:
        return len(self._running)

    async def run(self, owner: str = "") -> None:
        """Serve until cancelled: the messages of the process `owner`, or those that belong to no process.

        Turns that still run are then handed over: their next worker resumes them. An owner's are stopped.
        Raises StorageError when an owner's store fails.
        """
        self._owner, self._draining = owner, False
        self._handed_over.clear()  # this gateway may have lost the lead and regained it
        renewing = asyncio.create_task(self._renew())
        try:
            with self._hub.changes() as changed:
                while True:
                    for urgent in self._hub.take_urgent():
                        if urgent.approval:
                            self._assistant.policy.answer(urgent.session_key, *urgent.approval)
                        else:
                            await self.stop(urgent.session_key)
                    pause = await self._start_turns(changed)
                    await wait_for(changed, pause)
        finally:
            renewing.cancel()
            if not owner:
                self._handed_over.set()
            for one in self._running.values():
                one.work.cancel()
            await asyncio.gather(*(one.serving for one in self._running.values()), return_exceptions=True)

    async def stop(self, session_key: str) -> bool:
        """Stop what runs in a session and, silently, its subagents; whether a turn will say so."""
        running = [one for one in self._running.values() if one.turn.claim.session_key == session_key]
        for one in running:
            if not one.turn.inbound.is_stop:  # which is what asks
                self._stopped.add(session_key)
                one.work.cancel()
        with contextlib.suppress(StorageError):  # whoever asked finds them at work
            if await self.stop_subagents(session_key, None):
                self._stopped.add(session_key)
        return bool(running)

    async def stop_subagents(self, session_key: str, ids: Collection[str] | None) -> list[str]:
        """Stop subagents of a session (None: all, silently); returns the ids of those that had not ended."""
        stopped = await self._subagents.loaded.cancel(session_key, ids)
        for one in self._running.values():
            if one.turn.is_subagent and one.turn.inbound.chat_id in stopped:
                one.work.cancel()
        self._hub.notify()
        return stopped

    def take_stopped(self, session_key: str) -> bool:
        """Whether something of the session was stopped since this was last asked."""
        stopped = session_key in self._stopped
        self._stopped.discard(session_key)
        return stopped

    async def drain(self, seconds: float) -> None:
        """Start nothing new and give running turns time to finish."""
        self._draining = True
        if self._running:
            await asyncio.wait([one.serving for one in self._running.values()], timeout=seconds)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            if self._running or self._unclosed or self._blocked:
                with contextlib.suppress(StorageError):  # a lost lease shows at the next write
                    self._store.workers.enlist()

    # -- lanes

    async def _start_turns(self, changed: asyncio.Event) -> float:
        """Begin the turns of all free lanes there is room for; seconds to wait before the next look."""
        limits = self._assistant.config.agents.defaults
        subagents = sum(one.turn.is_subagent for one in self._running.values())
        chats = len(self._running) - subagents
        room = limits.max_concurrent_turns - chats, limits.max_concurrent_subagents - subagents
        try:
            await self._close_again()
            if self._draining or not any(room):
                return RENEW
            for turn in await self._store.turns.claim(self._owner, *room):
                self._start(turn, changed)
            return RENEW if self._running else await self._look_for_blocked()
        except StorageError as error:
            if isinstance(error, HomeUnusable) or (self._owner and not self._unclosed):
                raise
            self.idle.set()  # nobody waits for what cannot be stored
            if not self._owner:  # who has been told
                log.error("Cannot claim messages: %s", error)
            return _STORAGE_PAUSE

    async def _look_for_blocked(self) -> float:
        """A terminal may have to wait for the turn of another process; seconds until the next look."""
        found = await self._store.turns.blocked(self._owner) if self._owner else None
        if found is None:
            self._blocked = False
            self.idle.set()
            return RENEW
        inbound, is_given_up = found
        if is_given_up:
            error = StorageError(
                f"The session {inbound.session_key} has an unfinished message that only the gateway can"
                " continue. Run `nanobot gateway`, or talk in another session with -s NAME."
            )
            self._hub.publish(inbound, failed(error))
            self._blocked = True
        elif is_given_up is False and not self._blocked:  # None: its lane became free after the claim
            self._blocked = True
            self._hub.publish(inbound, Notice("Waiting: another turn of this session is running."))
        return _BLOCKED_PAUSE

    def _start(self, turn: InboxTurn, changed: asyncio.Event) -> None:
        self.idle.clear()
        self._blocked = False
        work = asyncio.create_task(self._work(turn), name=f"turn {turn.claim.session_key}")
        serving = asyncio.create_task(self._serve(turn, work))
        self._running[turn.claim.turn_id] = _Running(turn, work, serving)

        def end(_: asyncio.Task[None]) -> None:
            del self._running[turn.claim.turn_id]
            changed.set()

        serving.add_done_callback(end)

    # -- one turn

    async def _serve(self, turn: InboxTurn, work: asyncio.Task[None]) -> None:
        """Close a turn however its work ends. Whoever stops it cancels the work, as often as he likes."""
        await asyncio.wait([work])
        error = None if work.cancelled() else work.exception()
        if isinstance(error, TurnTakenOver):
            log.warning("The turn of %s was taken over by another gateway", turn.claim.session_key)
            self._hub.publish(turn.inbound, failed(error))
        elif error is not None:
            log.error("The turn of %s ended badly", turn.claim.session_key, exc_info=error)
            if not self._handed_over.is_set():
                broken = NanobotError("Something went wrong inside nanobot; see its log.")
                await self._finish(turn, failed(broken))
        elif work.cancelled() and self._handed_over.is_set():
            taken = TurnTakenOver("This nanobot ends; the next one goes on with the turn.")
            self._hub.publish(turn.inbound, failed(taken))
        elif work.cancelled():
            try:
                await self._finish(turn, _STOPPED)
            except TurnTakenOver:  # it had just been closed
                self._publish(turn, _STOPPED)

    async def _work(self, turn: InboxTurn) -> None:
        while True:
            notices: list[str] = []
            finished = await self._answer(turn, notices)
            if self._owner or finished.error_type not in _DISK_TROUBLE:
                return await self._finish(turn, finished, notices)
            log.error("The turn of %s waits for the disk: %s", turn.claim.session_key, finished.error)
            await asyncio.sleep(_STORAGE_PAUSE)

    async def _answer(self, turn: InboxTurn, notices: list[str]) -> TurnFinished:
        """Run a turn; `notices` gets what is said beside the answer."""

        def emit(event: TurnEvent) -> None:
            if isinstance(event, Notice):
                notices.append(event.text)
            self._publish(turn, event)

        inbound = turn.inbound
        try:
            if turn.claim.epoch > _MOST_TAKEOVERS:
                raise NanobotError("This message stopped nanobot again and again.")
            if inbound.command and self.run_command:
                try:
                    text = await self.run_command(inbound)
                except NanobotError as error:
                    text = str(error)
                if text is not None:
                    return TurnFinished("done", text, Usage())
            if inbound.attachments and self.fetch_attachments:
                inbound = await self.fetch_attachments(inbound)
            return await self._assistant.run(turn.claim, inbound, emit)
        except TurnTakenOver:
            raise
        except NanobotError as error:
            return failed(error)

    def _publish(self, turn: InboxTurn, event: TurnEvent) -> None:
        self._hub.publish(turn.inbound, event)
        if turn.inbound.source == "order":
            self._subagents.loaded.observe(turn.inbound, event)

    # -- its end

    async def _finish(self, turn: InboxTurn, finished: TurnFinished, notices: Sequence[str] = ()) -> None:
        """Acknowledge and queue the reply in one transaction; if the disk fails, later, before all else."""
        try:
            await self._close(turn, finished, notices)
        except TurnTakenOver:
            raise
        except StorageError as error:
            log.error("Cannot store the reply to %s: %s", turn.claim.session_key, error)
            self._unclosed.append((turn, finished, notices))
            if not self._owner:
                return
            finished = finished if finished.error else failed(error)  # a terminal is told at once
        self._publish(turn, finished)
        self._hub.notify()

    async def _close_again(self) -> None:
        while self._unclosed:
            turn, finished, notices = self._unclosed[0]
            with contextlib.suppress(TurnTakenOver):
                await self._close(turn, finished, notices)
                if not self._owner:
                    self._publish(turn, finished)
            del self._unclosed[0]

    async def _close(self, turn: InboxTurn, finished: TurnFinished, notices: Sequence[str]) -> None:
        inbound, outbound = None, []
        if turn.inbound.source == "order":
            if finished.stop_reason != "cancelled":  # whoever cancels it tells what is to be told
                from nanobot.subagents.reports import report

                inbound = await report(self._store, turn.inbound, finished, "".join(notices[-1:]))
        elif not self._owner:  # whose terminal shows the answer itself
            from nanobot.agent.replies import replies

            outbound = replies(turn, finished, notices)
        await self._store.turns.finish(
            *(turn.claim, finished.stop_reason, finished.error, outbound, finished.context),
            said=finished.said,
            inbound=inbound,
            tokens=finished.usage.total,
        )
