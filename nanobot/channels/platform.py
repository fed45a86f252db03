"""A chat platform on the shared base: it parses events and sends parts, everything around that is here."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import re
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from nanobot.channels.base import Channel, ChannelHost, attempt
from nanobot.channels.dialects import Dialect
from nanobot.channels.incoming import Incoming, continues, is_meant, joined, may_go_on
from nanobot.channels.outgoing import OutgoingPart, check_files, parts_of
from nanobot.config.channels import ChannelConfig
from nanobot.config.proxies import Proxy
from nanobot.errors import ChannelError, MarkupRefused, MessageGone, StorageError
from nanobot.messages import OutboundMessage

log = logging.getLogger(__name__)

Client = TypeVar("Client")

_PATIENCE = 3  # failed polls in a row that are only waited for; one more ends the connection
_RESTS = 6  # no more: whoever sends without end would hold up all others
_FORWARD_REST = 0.4  # of a rest is enough for a forward: the program sends it with its comment
_QUIET_AFTER_ERROR = 5.0  # seconds
_OLDEST_MISSED = 24 * 3600.0  # seconds
_CLOCKS_DIFFER = 60.0  # by at most so many seconds, here and at the platform
_MENU_NAME = re.compile(r"[a-z0-9_]{1,32}")
_REMEMBERED = 200  # outgoing messages whose progress is known


@dataclass
class _Shown:
    """What a chat has seen of one outgoing message: the id and the text of each part, as it is now.

    `growing` is the call that shows more of an unfinished answer right now, `quiet_until` (loop time) when
    the next may. `closed`: completing has begun.
    """

    parts: list[tuple[str, str]] = field(default_factory=list)
    growing: asyncio.Task[None] | None = None
    quiet_until: float = 0.0
    closed: bool = False


class Platform(Channel, Generic[Client]):
    """A channel that says how its platform reads an event and sends a part; the rest is done here.

    `title` is the platform's name for people, `upload_limit` in bytes, `caption_limit` in the dialect's
    units (0: files have no captions), `rest` the seconds in which what belongs to a message follows it.
    """

    title: ClassVar[str]
    dialect: ClassVar[Dialect]
    upload_limit: ClassVar[int]
    caption_limit: ClassVar[int] = 0
    rest: ClassVar[float] = 0.5
    config: ChannelConfig

    def __init__(self, name: str, config: Any, host: ChannelHost) -> None:
        super().__init__(name, config, host)
        self._shown: dict[str, _Shown] = {}
        self.connection: Client | None = None

    @property
    def client(self) -> Client:
        """The library's connection, while there is one. Raises ChannelError."""
        if self.connection is None:
            raise ChannelError(f"{self.title} is not connected.")
        return self.connection

    @abstractmethod
    def parse(self, event: Any) -> Incoming | None:
        """What an event of the platform says, or None if it is nothing to answer. It may raise anything."""

    @abstractmethod
    async def send_part(self, part: OutgoingPart) -> str:
        """Send one message and return its id. Raises ChannelError, MarkupRefused."""

    async def edit_part(self, part: OutgoingPart, message_id: str) -> None:
        """Make a sent message into this one. Raises ChannelError, MarkupRefused, MessageGone."""
        raise MessageGone(f"{self.title} cannot edit messages.")

    def edit_pause(self, chat_id: str) -> float:
        """Seconds this chat needs between two edits of a growing answer, beyond the one that all need."""
        return 0.0

    def upload_limit_of(self, message: OutboundMessage) -> int:
        """Bytes that a file of this message may have."""
        return self.upload_limit

    async def show_menu(self, commands: list[tuple[str, str]]) -> None:
        """Offer these slash commands, as (name, description), in the platform's menu. Raises ChannelError."""

    async def started(self) -> None:
        """The platform is reached: tell nanobot, and offer the commands; the bot works without them, too."""
        self.host.connected()
        menu = [item for item in self.host.commands if _MENU_NAME.fullmatch(item[0])]
        await attempt(self.name, "offer its commands in the menu", self.show_menu(menu))

    # Receiving

    async def receive(
        self, events: Sequence[Any], more: Callable[[int], Awaitable[Sequence[Any]]] | None = None
    ) -> AsyncIterator[tuple[Any, bool]]:
        """Have the messages in `events` accepted in order; acknowledge each event that comes back.

        With it everything before it is safe; the boolean says whether it was accepted just now. Events that
        cannot be parsed come back like others. While a message may go on in the next one, `more(n)` is asked
        for the events behind the first n. Raises ChannelError when nothing more can be stored.
        """
        events, rests = list(events), _RESTS
        messages = fresh = [self._parsed(event) for event in events]
        while more and rests:
            if any(may_go_on(one, comments=False) for one in fresh):
                await asyncio.sleep(self.rest)
            elif rests == _RESTS and any(may_go_on(one, comments=True) for one in fresh):
                await asyncio.sleep(self.rest * _FORWARD_REST)
            else:
                break
            following = await more(len(events))
            fresh, rests = [self._parsed(event) for event in following], rests - 1
            events, messages = [*events, *following], [*messages, *fresh]
        groups, last = _together(messages)
        waiting: list[tuple[Any, bool]] = []
        whole = 0  # up to which event all messages are complete
        for number, parts in enumerate(groups):
            refused = self.host.status.refused
            accepted = bool(parts) and await self._accept(functools.reduce(joined, parts))
            if len(parts) > 1 and not accepted and self.host.status.refused == refused:  # a part may be known
                accepted = any([await self._accept(part) for part in parts])
            waiting.append((events[number], accepted))
            whole = max(whole, last[number])
            if number == whole:
                for done in waiting:
                    yield done
                waiting.clear()

    async def _accept(self, message: Incoming) -> bool:
        if not is_meant(message, self.config.group_policy, self.config.group_allow_from):
            return False
        try:
            return await self.host.accept(message.inbound(self.name), message.sender_names)
        except StorageError as error:
            raise ChannelError(f"Messages wait at {self.title}: {error}") from error

    def _parsed(self, event: Any) -> Incoming | None:
        try:
            return self.parse(event)
        except Exception:  # it will not become better: stepped over, or it would stop all that follow
            self.host.status.unreadable += 1
            log.exception("Channel %s: a message that cannot be read was skipped", self.name)
            return None

    # Showing a running turn

    async def show_partial(self, message: OutboundMessage) -> None:
        shown = self._shown_of(message.id)
        running = shown.growing and not shown.growing.done()
        if shown.closed or running or asyncio.get_running_loop().time() < shown.quiet_until:
            return
        # Cancelled half-way, the call could still take effect, behind the back of `send`.
        shown.growing = asyncio.create_task(self._grow(message, shown))
        await asyncio.shield(shown.growing)

    async def _grow(self, message: OutboundMessage, shown: _Shown) -> None:
        """Show as much of an unfinished answer as fits into its first message. Never raises ChannelError."""
        enough = 2 * self.dialect.limit  # what comes later is in another message
        parts = parts_of(replace(message, text=message.text[:enough], kind="reply"), self.dialect)
        quiet = math.inf if len(message.text) > enough else self.edit_pause(message.chat_id)
        try:
            await self._bring(parts[:1], shown)
        except ChannelError as error:
            # A message whose fate is unknown is not begun again: it could be there twice.
            quiet = error.retry_after or (_QUIET_AFTER_ERROR if shown.parts else math.inf)
            log.debug("A growing answer was not shown: %s", error)
        shown.quiet_until = asyncio.get_running_loop().time() + quiet

    async def ended(self) -> None:
        """The connection is no more: give up what is being shown."""
        self.connection = None
        tasks = [shown.growing for shown in self._shown.values() if shown.growing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Sending

    async def send(self, message: OutboundMessage) -> str:
        """Send text, then files; called again after an error, it goes on where it stopped."""
        limit = self.upload_limit_of(message)
        await asyncio.to_thread(check_files, message.attachments, limit, self.title)
        shown = self._shown_of(message.id)
        shown.closed = True
        if message.kind == "progress":
            del self._shown[message.id]  # interim words stay; the answer will be a message of its own
        if shown.growing:
            await asyncio.wait([shown.growing])
        captions = 0 if shown.parts else self.caption_limit
        parts = await asyncio.to_thread(parts_of, message, self.dialect, caption_limit=captions)
        await self._bring(parts, shown)
        return ",".join(message_id for message_id, _ in shown.parts)

    async def _bring(self, parts: Sequence[OutgoingPart], shown: _Shown) -> None:
        """Have the chat show these parts: send what is missing, edit what says something else."""
        for number, part in enumerate(parts):
            message_id, text = shown.parts[number] if number < len(shown.parts) else ("", None)
            if text != part.text:
                if part.file:
                    part = replace(part, data=await asyncio.to_thread(Path(part.file.path).read_bytes))
                shown.parts[number:] = [(await self._deliver(part, message_id), part.text)]

    async def _deliver(self, part: OutgoingPart, message_id: str) -> str:
        """Send a part, or turn this message into it; without formatting should that be refused."""
        try:
            if message_id:
                await self.edit_part(part, message_id)
                return message_id
            return await self.send_part(part)
        except MessageGone:
            # Under the key of a message that was deleted, a platform could answer with that one.
            return await self._deliver(replace(part, key=f"{part.key}+"), "")
        except MarkupRefused as error:
            if not part.formatted:
                raise
            log.warning("%s refused formatted text (%s); it goes out unformatted", self.title, error)
            return await self._deliver(replace(part, text=part.plain, formatted=False), message_id)

    def _shown_of(self, message_id: str) -> _Shown:
        shown = self._shown.pop(message_id, None) or _Shown()
        while len(self._shown) >= _REMEMBERED:
            del self._shown[next(iter(self._shown))]  # the one that was not used for the longest time
        self._shown[message_id] = shown
        return shown


def _together(messages: list[Incoming | None]) -> tuple[list[list[Incoming]], list[int]]:
    """The parts of the message that begins with each event, and the number of its last event. What one person
    sends at once is one message, also when others write in between.
    """
    groups, last = [list[Incoming]() for _ in messages], list(range(len(messages)))
    begun: dict[tuple[str, str, str], tuple[int, Incoming]] = {}  # by writer: where, and what it is so far
    for number, message in enumerate(messages):
        if message is None:
            continue
        writer = message.chat_id, message.thread, message.sender_id
        first, before = begun.get(writer, (number, None))
        if before and continues(before, message):
            begun[writer] = first, joined(before, message)
        else:
            begun[writer] = (first := number), message
        groups[first].append(message)
        last[first] = number
    return groups, last


async def keep_polling(name: str, poll: Callable[[], Awaitable[None]], pause: float) -> None:
    """Poll for ever. Failures in a row are waited for, `pause` seconds and longer; then it raises."""
    failures = 0
    while True:
        try:
            await poll()
            failures = 0
        except ChannelError as error:
            failures += 1
            if failures > _PATIENCE or error.permanent:
                raise
            log.warning("Channel %s: %s", name, error)
            await asyncio.sleep(error.retry_after or pause * 2.0 ** (failures - 1))


def missed_since(seen: Mapping[str, float], *chat_ids: str) -> float:
    """From when (Unix seconds) the history of a chat may hold what was missed: when the channel was stopped,
    or the chat's last message that is safe, or else the last of any chat; at most a day ago. `chat_ids`: what
    the chat may be known as. `seen`: what the host had seen before this connection.
    """
    known = [seen[chat_id] for chat_id in ("", *chat_ids) if chat_id in seen]
    newest = max(known or seen.values(), default=time.time())  # who is new missed nothing
    return max(newest - _CLOCKS_DIFFER, time.time() - _OLDEST_MISSED)


def aiohttp_proxy(proxy: Proxy | None) -> dict[str, Any]:
    """`proxy` or `connector`, as libraries on aiohttp take it. Raises ChannelError for a missing package."""
    if proxy is None or not proxy.url.lower().startswith("socks"):
        return {"proxy": proxy and proxy.url}
    try:
        from aiohttp_socks import ProxyConnector  # type: ignore[import-not-found]
    except ImportError:
        needed = f"The proxy {proxy} needs a package. Run: pip install aiohttp-socks"
        raise ChannelError(needed, permanent=True) from None
    return {"connector": ProxyConnector.from_url(proxy.url.replace("socks5h", "socks5", 1), rdns=True)}


async def until_first_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Run side by side until one ends, with its error; the others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
