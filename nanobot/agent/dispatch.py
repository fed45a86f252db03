"""From the inbox to turns: one lane a session, several lanes at once, nothing lost on the way.

The dispatcher claims accepted messages from the store, runs their turns, and acknowledges each
together with its reply. It can be killed at any moment: a claimed turn is taken over and resumed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Protocol

from nanobot.agent.assistant import Assistant, Request
from nanobot.agent.attachments import describe, load_images
from nanobot.agent.slash import parse_command
from nanobot.agent.subagent import SUBAGENT, SubagentRules, same_request
from nanobot.agent.tools.base import TurnContext
from nanobot.bus.events import Notice, TurnEvent, TurnFinished, failed
from nanobot.bus.queue import ChangeSignal, wait_for
from nanobot.errors import NanobotError, StorageError, TurnTakenOver
from nanobot.messages import InboundMessage, Message, OutboundMessage, Usage
from nanobot.store.records import Claim, InboxTurn, StoredMessage
from nanobot.store.store import Store
from nanobot.store.workers import RENEW

log = logging.getLogger(__name__)

HEARTBEAT_OK = "HEARTBEAT_OK"
_STOPPED = TurnFinished("cancelled", "", Usage())
_MOST_TAKEOVERS = 50  # a turn whose worker died this often is what kills it
_STORAGE_PAUSE = 5.0  # seconds before the store is tried again after it failed


class ChatSurface(Protocol):
    """What the dispatcher needs of the channels; all of it is best effort."""

    async def show(self, inbound: InboundMessage, event: TurnEvent) -> None:
        """Show a running turn to its chat: typing, growing text, tool hints."""

    async def drop(self, session_key: str) -> None:
        """Forget a turn that ended without its last event."""

    async def fetch_attachments(self, inbound: InboundMessage) -> InboundMessage:
        """The message with its files on disk."""


class Dispatcher:
    """Runs accepted messages, at once `limit` turns of chats and `subagent_limit` of subagents."""

    def __init__(
        self,
        store: Store,
        assistant: Assistant,
        signal: ChangeSignal,
        chats: ChatSurface,
        run_command: Callable[[InboundMessage], Awaitable[str]],
        *,
        limit: int,
        queue_mode: str,
        subagent_limit: int,
        subagents: SubagentRules,
    ) -> None:
        self._store = store
        self._assistant = assistant
        self._signal = signal
        self._chats = chats
        self._run_command = run_command
        self._limit = limit
        self._queue_mode = queue_mode
        self._subagent_limit = subagent_limit
        self._subagents = subagents
        self._running: dict[str, asyncio.Task[None]] = {}
        self._orders: set[str] = set()  # those of the running sessions that are subagents'
        self._stopped: set[str] = set()
        self._stopping: set[asyncio.Task[None]] = set()
        self._draining = False
        self._handed_over = asyncio.Event()

    @property
    def running(self) -> int:
        return len(self._running)

    def arrived(self, inbound: InboundMessage) -> None:
        """A message was accepted. `/stop` acts at once; its answer comes in the session's order."""
        parsed = parse_command(inbound.text)
        task = self._running.get(inbound.session_key)
        if parsed and parsed[0] == "stop":
            if task is not None:
                self._stopped.add(inbound.session_key)
                task.cancel()
            stopping = asyncio.create_task(self._stop_family(inbound.session_key))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)
        self._signal.notify()

    async def _stop_family(self, session_key: str) -> None:
        with contextlib.suppress(StorageError):  # the command itself will say so
            if await self.stop_subagents(session_key, None):
                self._stopped.add(session_key)

    async def stop_subagents(self, session_key: str, ids: Collection[str] | None) -> list[str]:
        """Stop subagents of a session (None: all, silently); returns the ids of those that had not ended."""
        report = self._subagents.cancelled if ids is not None else None
        stopped = await self._store.subagents.cancel(session_key, ids, report)
        for subagent in stopped:
            if task := self._running.get(f"{SUBAGENT}:{subagent}"):
                task.cancel()
        self._signal.notify()
        return stopped

    def take_stopped(self, session_key: str) -> bool:
        """Whether a turn of the session was stopped since this was last asked."""
        stopped = session_key in self._stopped
        self._stopped.discard(session_key)
        return stopped

    async def run(self) -> None:
        """Serve until cancelled. Running turns are then handed over: their next worker resumes them."""
        self._draining = False
        self._handed_over.clear()  # this gateway may have lost the lead and regained it
        renewing = asyncio.create_task(self._renew())
        try:
            with self._signal.subscribe() as changed:
                while True:
                    await self._start_turns(changed)
                    await wait_for(changed, RENEW)
        finally:
            renewing.cancel()
            await self._hand_over()

    async def drain(self, seconds: float) -> None:
        """Start nothing new and give running turns time to finish."""
        self._draining = True
        if self._running:
            await asyncio.wait(self._running.values(), timeout=seconds)

    async def _hand_over(self) -> None:
        self._handed_over.set()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            with contextlib.suppress(StorageError):  # a lost lease shows at the next write
                self._store.workers.renew()

    async def _start_turns(self, changed: asyncio.Event) -> None:
        while any(room := self._room()) and not self._draining:
            try:
                turn = await self._store.turns.claim_next(chats=room[0], subagents=room[1])
            except StorageError as error:
                log.error("Cannot claim messages: %s", error)
                await asyncio.sleep(_STORAGE_PAUSE)
                return
            if turn is None:
                return
            key = turn.claim.session_key
            task = asyncio.create_task(self._serve(turn), name=f"turn {key}")
            self._running[key] = task
            if turn.is_subagent:
                self._orders.add(key)
            task.add_done_callback(functools.partial(self._ended, key, changed))

    def _room(self) -> tuple[bool, bool]:
        """Whether another turn of a chat may begin, and another one of a subagent."""
        subagents = len(self._orders)
        return len(self._running) - subagents < self._limit, subagents < self._subagent_limit

    def _ended(self, key: str, changed: asyncio.Event, task: asyncio.Task[None]) -> None:
        if self._running.get(key) is task:  # its lane may have its next turn already
            del self._running[key]
            self._orders.discard(key)
        changed.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("The turn of %s could not be closed", key, exc_info=task.exception())

    async def _serve(self, turn: InboxTurn) -> None:
        """Work on a turn and close it, also when it breaks or is stopped before it could close itself."""
        work = asyncio.create_task(self._work(turn))
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
        if self._handed_over.is_set():
            return
        if work.cancelled():
            with contextlib.suppress(TurnTakenOver):  # it had just been closed
                await self._finish(turn, _STOPPED)
        elif isinstance(error := work.exception(), TurnTakenOver):
            log.warning("The turn of %s was taken over by another gateway", turn.claim.session_key)
        elif error is not None:
            log.error("The turn of %s ended badly", turn.claim.session_key, exc_info=error)
            await self._finish(
                turn, failed(NanobotError("Something went wrong inside nanobot; see its log."))
            )

    async def _work(self, turn: InboxTurn) -> None:
        inbound = turn.inbound
        if turn.claim.epoch > _MOST_TAKEOVERS:
            await self._finish(turn, failed(NanobotError("This message stopped nanobot again and again.")))
        elif inbound.source == "person" and parse_command(inbound.text) is not None:
            await self._finish(turn, TurnFinished("done", await self._command(inbound), Usage()))
        else:
            await self._answer(turn)

    async def _command(self, inbound: InboundMessage) -> str:
        try:
            return await self._run_command(inbound)
        except NanobotError as error:
            return str(error)

    async def _answer(self, turn: InboxTurn) -> None:
        finished, notices = await self._attempt(turn)
        while finished.error_type == StorageError.__name__:
            log.error("The turn of %s waits for the disk: %s", turn.claim.session_key, finished.error)
            await asyncio.sleep(_STORAGE_PAUSE)
            finished, notices = await self._attempt(replace(turn, resumed=True))
        await self._finish(turn, finished, notices)

    async def _attempt(self, turn: InboxTurn) -> tuple[TurnFinished, list[str]]:
        finished = _STOPPED
        notices: list[str] = []
        try:
            request = await self._request(turn)
            show = self._chats.show if turn.inbound.source == "person" else self._watch
            async with contextlib.aclosing(self._assistant.run(turn.claim, request)) as events:
                async for event in events:
                    if isinstance(event, TurnFinished):
                        finished = event
                    elif isinstance(event, Notice):
                        notices.append(event.text)
                    await show(turn.inbound, event)
        except TurnTakenOver:
            raise
        except NanobotError as error:
            finished = failed(error)
        finally:
            await self._chats.drop(turn.claim.session_key)
        return finished, notices

    async def _watch(self, inbound: InboundMessage, event: TurnEvent) -> None:
        """Reminders, heartbeats and subagents speak only when they are done."""
        if inbound.source == "order":
            self._subagents.observe(inbound, event)

    async def _request(self, turn: InboxTurn) -> Request:
        begun = turn.resumed and await self._has_messages(turn.claim)
        inbound = turn.inbound if begun else await self._chats.fetch_attachments(turn.inbound)
        context = TurnContext(
            turn_id=turn.claim.turn_key,
            number=turn.claim.turn_id,
            session_key=inbound.session_key,
            channel=inbound.channel,
            chat_id=inbound.chat_id,
            sender_id=inbound.sender_id,
            message_id=inbound.external_id,
            metadata=inbound.metadata,
            is_group=inbound.is_group,
            source=inbound.source,
            trust=inbound.trust,
            reply_to=inbound.reply_to,
            deliver=inbound.deliver,
            family=inbound.family,
        )
        return Request(
            context,
            None if begun else inbound.text,
            images=() if begun else await asyncio.to_thread(load_images, inbound.attachments),
            note=describe(inbound),
            steer=lambda: self._steer(turn),
            handed_over=self._handed_over,
        )

    async def _has_messages(self, claim: Claim) -> bool:
        """Whether the turn got as far as recording its own message."""
        newest = await self._store.sessions.context(claim.session_key, 1)
        return bool(newest) and newest[0].turn_id == claim.turn_id

    async def _steer(self, turn: InboxTurn) -> Sequence[StoredMessage]:
        to_message: Callable[[InboundMessage], Message | None] = _steering_message
        if turn.inbound.source == "report":
            to_message = functools.partial(same_request, turn.inbound)
        else:
            settings = await self._store.sessions.settings(turn.claim.session_key)
            if settings.get("queue", self._queue_mode) != "steer":
                return ()
        return await self._store.turns.take_steering(turn.claim, to_message)

    async def _is_silent(self, turn: InboxTurn, finished: TurnFinished) -> bool:
        """Whether the chat gets no reply: the message tool has spoken there, or nothing is to be said."""
        inbound = turn.inbound
        if inbound.channel == "cli":  # a job that was set up in a terminal
            level = logging.ERROR if finished.error else logging.INFO
            log.log(level, "%s: %s", inbound.session_key, finished.error or finished.text)
            return True
        if finished.stop_reason in ("error", "limit"):
            return False
        if not inbound.deliver:
            return True
        if inbound.source in ("heartbeat", "report") and is_heartbeat_ok(finished.text):
            return True
        return await self._store.outbox.sent_in_turn(turn.claim.turn_id, inbound.channel, inbound.chat_id)

    async def _finish(self, turn: InboxTurn, finished: TurnFinished, notices: Sequence[str] = ()) -> None:
        """Acknowledge and queue the reply in one transaction, however long the disk needs to recover."""
        while True:
            try:
                await self._close(turn, finished, notices)
                break
            except TurnTakenOver:
                raise
            except StorageError as error:
                log.error("Cannot store the reply to %s: %s", turn.claim.session_key, error)
                await asyncio.sleep(_STORAGE_PAUSE)
        self._signal.notify()

    async def _close(self, turn: InboxTurn, finished: TurnFinished, notices: Sequence[str]) -> None:
        text, outbound, inbound = _reply_text(finished, notices), [], None
        if turn.inbound.source == "order":
            if finished.stop_reason != "cancelled":  # whoever cancels it tells what is to be told
                inbound = await self._subagents.report(turn.inbound, finished, "".join(notices[-1:]))
        elif text and not await self._is_silent(turn, finished):
            outbound = [_reply(turn, text)]
        await self._store.turns.finish(
            turn.claim,
            finished.stop_reason,
            finished.error,
            outbound,
            finished.context,
            said=finished.said,
            inbound=inbound,
            tokens=finished.usage.total,
        )


def is_heartbeat_ok(text: str) -> bool:
    """Whether a heartbeat found nothing to report, however it is decorated."""
    return text.strip(" \t\r\n*_`.~") == HEARTBEAT_OK


def _steering_message(inbound: InboundMessage) -> Message | None:
    """Commands, files, quotes and what nobody has written wait for their own turn."""
    if inbound.source != "person" or parse_command(inbound.text) is not None:
        return None
    if inbound.attachments or inbound.quoted:
        return None
    return Message.user(inbound.text)


def _reply(turn: InboxTurn, text: str) -> OutboundMessage:
    inbound = turn.inbound
    return OutboundMessage(
        id=f"turn-{turn.claim.turn_key}",
        channel=inbound.channel,
        chat_id=inbound.chat_id,
        text=text,
        metadata=inbound.metadata,
    )


def _reply_text(finished: TurnFinished, notices: Sequence[str]) -> str:
    """What the chat is told: the answer, and in words why there is none or not all of it."""
    if finished.stop_reason == "error":
        return f"⚠️ {finished.error}"
    if finished.stop_reason == "cancelled":
        return ""  # /stop answers for itself
    if finished.stop_reason == "limit":
        return "\n\n".join(part for part in (finished.text, f"⚠️ {notices[-1]}" if notices else "") if part)
    return finished.text
