"""Shows a running turn in its chat: typing, the answer as it grows, and what the owner chose to see.

Nothing here is promised to arrive: the reply itself goes through the outbox. A slow or failing platform
never slows a turn down, because each turn's progress is sent by a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable

from nanobot.bus.events import (
    ApprovalAsked,
    Event,
    TextDelta,
    TextDiscarded,
    ToolStarted,
    TurnFinished,
    TurnStarted,
)
from nanobot.bus.hub import Hub
from nanobot.channels.base import Channel, contained
from nanobot.channels.manager import ChannelManager
from nanobot.config.channels import ChannelsConfig
from nanobot.errors import ChannelError, NanobotError
from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.store.mail import Outbox

log = logging.getLogger(__name__)

_TYPING_EVERY = 4.0  # seconds; platforms show it for about five
_EDIT_EVERY = 1.0  # seconds between two edits of a growing answer
_FLUSH = 5.0  # seconds the last progress may take before the reply is queued


class ChannelProgress:
    """A subscriber to all sessions: shows the turns that messages of channels began."""

    def __init__(self, config: ChannelsConfig, channels: ChannelManager, outbox: Outbox) -> None:
        self._texts = config.send_progress
        self._hints = config.show_tool_progress or config.send_tool_hints
        self._channels = channels
        self._outbox = outbox
        self._turns: dict[str, _TurnProgress] = {}  # by session
        self._closing: dict[str, asyncio.Task[None]] = {}  # by the id of the message that replies

    async def run(self, hub: Hub) -> None:
        """Show what goes on until cancelled."""
        with hub.subscribe() as events:
            async for inbound, event in events:
                with contextlib.suppress(ChannelError), contained(inbound.channel):
                    self._take(inbound, event)
                    if isinstance(event, ApprovalAsked) and not inbound.owner:
                        await self._ask(inbound, event)

    async def _ask(self, inbound: InboundMessage, asked: ApprovalAsked) -> None:
        """Ask the chat through the outbox: the turn waits for the answer."""
        arguments = asked.arguments.replace("```", "'''")  # so that it cannot look like ours
        text = (
            f"May I run `{asked.name}`?\n```\n{arguments}\n```\n/approve {asked.code} or /deny {asked.code}"
        )
        question = OutboundMessage(
            f"ask-{asked.code}", inbound.channel, inbound.chat_id, text, "message", metadata=inbound.metadata
        )
        await self._outbox.enqueue(question)

    def _take(self, inbound: InboundMessage, event: Event) -> None:
        channel = self._channels.channel(inbound.channel)
        if isinstance(event, TurnStarted) and inbound.source == "person" and channel:
            self._close(inbound.session_key)  # of an attempt that ended without its last event
            self._turns[inbound.session_key] = _TurnProgress(
                channel, inbound, event.turn_id, self._outbox, texts=self._texts, hints=self._hints
            )
        elif isinstance(event, TurnFinished):
            self._close(inbound.session_key)
        elif (progress := self._turns.get(inbound.session_key)) is not None:
            progress.take(event)

    def _close(self, session_key: str) -> None:
        if progress := self._turns.pop(session_key, None):
            key = progress.reply_id
            self._closing[key] = asyncio.create_task(progress.close())
            self._closing[key].add_done_callback(lambda _: self._closing.pop(key, None))

    async def finish(self, message: OutboundMessage) -> None:
        """Before a reply is sent: send what was to be seen before it, then stop."""
        for session_key in [key for key, one in self._turns.items() if one.reply_id == message.id]:
            self._close(session_key)
        if closing := self._closing.get(message.id):
            await asyncio.wait([closing])


class _TurnProgress:
    """What the chat has been shown of one turn."""

    def __init__(
        self,
        channel: Channel,
        inbound: InboundMessage,
        turn_id: str,
        outbox: Outbox,
        texts: bool,
        hints: bool,
    ) -> None:
        self._channel = channel
        self._outbox = outbox
        self._inbound = inbound
        self.reply_id = f"turn-{turn_id}"
        self._texts = texts
        self._hints = hints
        self._text = ""
        self._muted = False
        self._changed = asyncio.Event()
        self._waiting: asyncio.Queue[OutboundMessage] = asyncio.Queue()
        self._sent = 0
        self._tasks = [asyncio.create_task(self._type()), asyncio.create_task(self._send_lines())]
        if texts and channel.capabilities.streaming:
            self._tasks.append(asyncio.create_task(self._stream()))

    def take(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._text += event.text
            self._changed.set()
        elif isinstance(event, TextDiscarded):
            self._text = ""
        elif isinstance(event, ToolStarted):
            if self._texts and self._text.strip():
                self._say(self._text, completes=self._channel.capabilities.streaming)
            self._text = ""
            self._muted = self._muted or event.name == "message"  # the final text may not be sent at all
            if self._hints:
                self._say(event.hint)

    def _say(self, text: str, *, completes: bool = False) -> None:
        """Send a message of its own, or complete the growing one with it."""
        self._sent += 1
        message_id = self.reply_id + ("" if completes else f"-{self._sent}")
        self._waiting.put_nowait(self._message(message_id, text.strip()))

    async def close(self) -> None:
        """Send what waits, then stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH):
                await self._waiting.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _type(self) -> None:
        await self._try(self._channel.react(self._inbound))
        if self._channel.capabilities.typing:
            while True:
                await self._try(self._channel.show_typing(self._inbound))
                await asyncio.sleep(_TYPING_EVERY)

    async def _after_replies(self) -> None:
        """Wait for the answers before this turn: what is shown before them would stand above them."""
        chat = self._inbound.channel, self._inbound.chat_id
        while True:
            if not await self._outbox.owes(*chat, besides=self.reply_id):
                return
            await asyncio.sleep(_EDIT_EVERY)

    async def _send_lines(self) -> None:
        while True:
            message = await self._waiting.get()
            await self._try(self._after_replies())
            await self._try(self._channel.send(message))
            self._waiting.task_done()

    async def _stream(self) -> None:
        await self._changed.wait()
        await self._try(self._after_replies())
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._waiting.join()  # what was said before stands above
            if self._text.strip() and not self._muted:
                message = self._message(self.reply_id, self._text)
                await self._try(self._channel.show_partial(message))
            await asyncio.sleep(_EDIT_EVERY)

    def _message(self, message_id: str, text: str) -> OutboundMessage:
        inbound = self._inbound
        return OutboundMessage(
            message_id, inbound.channel, inbound.chat_id, text, kind="progress", metadata=inbound.metadata
        )

    async def _try(self, work: Awaitable[object]) -> None:
        try:
            with contained(self._channel.name):
                await work
        except NanobotError as error:
            log.debug("Progress for %s was not shown: %s", self._inbound.session_key, error)
