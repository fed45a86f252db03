"""A channel connects, turns what arrives into `InboundMessage`, and sends `OutboundMessage`.

Access, storage, restarts and retries happen around it, in `manager.py`; what chat platforms have in common is
in `Platform` (`platform.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nanobot.config.channels import ChannelConfig
from nanobot.errors import ChannelError, NanobotError
from nanobot.messages import Attachment, InboundMessage, OutboundMessage, Trust
from nanobot.paths import write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What of a running turn a channel can show."""

    streaming: bool = False
    typing: bool = False


@dataclass
class ChannelStatus:
    """How a channel is doing. Times are Unix seconds, 0 for never; `unreadable` counts skipped events."""

    name: str
    state: str = "starting"  # starting, connected, waiting, failed
    connected_since: float = 0.0
    last_error: str = ""
    received: int = 0
    refused: int = 0
    unreadable: int = 0
    sent: int = 0


@dataclass(frozen=True)
class ChannelHost:
    """What a channel may ask of nanobot.

    `accept` stores a message; acknowledge to the platform when it has returned. False: it was dropped, as its
    sender is not allowed, or it came before. It raises StorageError when nothing could be stored: do not
    acknowledge then. `connected` tells that the platform is reached. `commands` are the slash commands as
    (name, description). `seen`: by chat id, when the newest message was sent (Unix seconds) that is safe; by
    "", until when the channel had missed nothing.
    """

    accept: Callable[[InboundMessage, Collection[str]], Awaitable[bool]]
    connected: Callable[[], None]
    commands: tuple[tuple[str, str], ...] = ()
    status: ChannelStatus = field(default_factory=lambda: ChannelStatus(""))
    seen: dict[str, float] = field(default_factory=dict)


class Channel(ABC):
    """One chat platform. `config` is its section of config.json: a `section` if the class names one."""

    capabilities: ClassVar[Capabilities] = Capabilities()
    section: ClassVar[type[ChannelConfig] | None] = None

    def __init__(self, name: str, config: Any, host: ChannelHost) -> None:
        self.name = name
        self.config = config
        self.host = host

    @abstractmethod
    async def run(self) -> None:
        """Connect and receive until cancelled; after any error it is called again, after a while.

        For each message `await self.host.accept(inbound, names)`: `allowFrom` may list these names, too.
        """

    @abstractmethod
    async def send(self, message: OutboundMessage) -> str:
        """Deliver a message and return the platform's receipt. Raises ChannelError."""

    async def react(self, inbound: InboundMessage) -> None:
        """Mark a message as seen: its turn has begun."""

    async def show_typing(self, inbound: InboundMessage) -> None:
        """Tell the chat that an answer is coming; called every few seconds while a turn runs."""

    async def show_partial(self, message: OutboundMessage) -> None:
        """Show an unfinished answer; `send` of the same `message.id` completes it. If that is `progress`, the
        words were interim: what comes later under this id is another message.
        """

    async def fetch(self, attachment: Attachment, target: Path) -> None:
        """Write the file that `attachment.ref` names to `target`. Raises ChannelError."""
        await asyncio.to_thread(write_atomic, target, await self.download(attachment.ref))

    async def download(self, ref: str) -> bytes:
        """The file that `ref` names, for channels that have no better `fetch`. Raises ChannelError."""
        raise ChannelError(f"{self.name} cannot download files.", permanent=True)


@contextlib.contextmanager
def contained(name: str) -> Iterator[None]:
    """Makes every error of the channel `name` a ChannelError, which is waited for, shown and tried again."""
    try:
        yield
    except ChannelError:
        raise
    except NanobotError as error:
        raise ChannelError(str(error)) from error
    except Exception as error:
        log.exception("Channel %s failed", name)
        raise ChannelError(f"{name} failed: {type(error).__name__}: {error}") from error


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4 and on to 300, half of it by chance."""
    return min(300.0, 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0)


async def attempt(name: str, what: str, work: Awaitable[None]) -> None:
    """Do what the channel `name` can do without."""
    try:
        with contained(name):
            await work
    except ChannelError as error:
        log.warning("Channel %s could not %s: %s", name, what, error)


def trust_of(allow_from: Collection[str], sender_id: str, names: Collection[str] = ()) -> Trust | None:
    """Whose word a sender has: owner if listed, guest if all are let in (empty or `*`), None: not let in.

    An entry of digits is an id and nothing else, so that nobody gets in by choosing it as a name.
    """
    wanted = {_normal(entry) for entry in allow_from}
    spoken = {_normal(name) for name in names if not _normal(name).isdigit()}
    if sender_id in {entry.strip() for entry in allow_from} or not wanted.isdisjoint(spoken):
        return "owner"
    return "guest" if not allow_from or "*" in allow_from else None


def _normal(name: str) -> str:
    return name.strip().removeprefix("@").casefold()
