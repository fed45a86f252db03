"""Shows a running turn in its chat: typing, the answer as it grows, and what the owner chose to see.

Nothing here is promised to arrive: the reply itself goes through the outbox. A slow or failing platform
never slows a turn down, because each turn's progress is sent by a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass

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
from nanobot.errors import ChannelError
from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.store.mail import Outbox

_TYPING_EVERY = 4.0  # seconds; platforms show it for about five
_EDIT_EVERY = 1.0  # seconds between two edits of a growing answer
_FLUSH = 5.0  # seconds the last progress may take before the reply is queued


class ChannelProgress:
    """A subscriber to all sessions: shows the turns that messages of channels began."""

    def __init__(self, config: ChannelsConfig, channels: ChannelManager, outbox: Outbox) -> None:
        self._shows = config.send_progress, config.show_tool_progress or config.send_tool_hints
        self._channels = channels
        self._outbox = outbox
        self._turns: dict[str, _TurnProgress] = {}  # by session
        self._closing: dict[str, asyncio.Task[None]] = {}  # by the id of the message that replies

    async def run(self, hub: Hub) -> None:
        """Show what goes on until cancelled."""
        with hub.subscribe() as events:
            async for inbound, event in events:
                with contextlib.suppress(ChannelError), contained(inbound.channel):
                    await self._take(inbound, event)

    async def _take(self, inbound: InboundMessage, event: Event) -> None:
        channel, session = self._channels.channel(inbound.channel), inbound.session_key
        match event:
            case TurnStarted() if inbound.source == "person" and channel:
                self._close(session)  # of an attempt that ended without its last event
                self._turns[session] = _TurnProgress(
                    channel, inbound, f"turn-{event.turn_id}", self._outbox, *self._shows
                )
            case TurnFinished():
                self._close(session)
            case ApprovalAsked() if not inbound.owner:  # the turn waits for the answer
                await self._outbox.enqueue(_question(inbound, event))
            case _ if session in self._turns:
                self._turns[session].take(event)

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


def _question(inbound: InboundMessage, asked: ApprovalAsked) -> OutboundMessage:
    arguments = asked.arguments.replace("```", "'''")  # so that it cannot look like ours
    text = f"May I run `{asked.name}`?\n```\n{arguments}\n```\n/approve {asked.code} or /deny {asked.code}"
    name = f"ask-{asked.code}"
    return OutboundMessage(name, inbound.channel, inbound.chat_id, text, "message", metadata=inbound.metadata)


@dataclass
class _TurnProgress:
    """What the chat is shown of one turn: interim `texts`, tool `hints`. `text` is that of a step."""

    channel: Channel
    inbound: InboundMessage
    reply_id: str
    outbox: Outbox
    texts: bool
    hints: bool
    text: str = ""
    sent: int = 0
    muted: bool = False  # the final text may not be sent at all

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self._waiting: asyncio.Queue[OutboundMessage] = asyncio.Queue()
        streams = self.texts and self.channel.capabilities.streaming  # first: a plugin may raise here
        work = [self._type(), self._send_lines(), *([self._stream()] if streams else [])]
        self._tasks = [asyncio.create_task(one) for one in work]

    def take(self, event: Event) -> None:
        match event:
            case TextDelta():
                self.text += event.text
                self._changed.set()
            case TextDiscarded():
                self.text = ""
            case ToolStarted():
                if self.texts and self.text.strip():
                    self._say(self.text, completes=self.channel.capabilities.streaming)
                self.text = ""
                self.muted = self.muted or event.name == "message"
                if self.hints:
                    self._say(event.hint)

    def _say(self, text: str, *, completes: bool = False) -> None:
        """Send a message of its own, or complete the growing one with it."""
        self.sent += 1
        message_id = self.reply_id + ("" if completes else f"-{self.sent}")
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
        await self._try(self.channel.react(self.inbound))
        if self.channel.capabilities.typing:
            while True:
                await self._try(self.channel.show_typing(self.inbound))
                await asyncio.sleep(_TYPING_EVERY)

    async def _after_replies(self) -> None:
        """Wait for the answers before this turn: what is shown before them would stand above them."""
        chat = self.inbound.channel, self.inbound.chat_id
        while True:
            if not await self.outbox.owes(*chat, besides=self.reply_id):
                return
            await asyncio.sleep(_EDIT_EVERY)

    async def _send_lines(self) -> None:
        while True:
            message = await self._waiting.get()
            await self._try(self._after_replies())
            await self._try(self.channel.send(message))
            self._waiting.task_done()

    async def _stream(self) -> None:
        await self._changed.wait()
        await self._try(self._after_replies())
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._waiting.join()  # what was said before stands above
            if self.text.strip() and not self.muted:
                message = self._message(self.reply_id, self.text)
                await self._try(self.channel.show_partial(message))
            await asyncio.sleep(_EDIT_EVERY)

    def _message(self, message_id: str, text: str) -> OutboundMessage:
        inbound = self.inbound
        return OutboundMessage(
            message_id, inbound.channel, inbound.chat_id, text, kind="progress", metadata=inbound.metadata
        )

    async def _try(self, work: Awaitable[object]) -> None:
        with contextlib.suppress(ChannelError), contained(self.channel.name):
            await work
