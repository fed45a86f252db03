"""What a chat platform is to nanobot: receive, send, and what it can show.

A channel is one class in one file. It connects, turns what arrives into `InboundMessage`, and sends
`OutboundMessage`. Everything that all channels share happens around it, once, in `manager.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nanobot.errors import ChannelError
from nanobot.messages import Attachment, InboundMessage, OutboundMessage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a platform can do. `idempotent`: sending the same `OutboundMessage.id` twice shows it once."""

    streaming: bool = False
    typing: bool = False
    idempotent: bool = False


@dataclass(frozen=True)
class ChannelHost:
    """What a channel may ask of nanobot.

    `accept` stores a message and returns once it is safe: acknowledge to the platform after that, not
    before. It drops senders who are not allowed and messages that came before (its answer is False
    then), and raises StorageError when nothing could be stored: do not acknowledge then.
    `connected` tells that the platform is reached and working. `commands` are the slash commands as
    (name, description), for platforms that list them.
    """

    accept: Callable[[InboundMessage, Collection[str]], Awaitable[bool]]
    connected: Callable[[], None]
    commands: tuple[tuple[str, str], ...] = ()


class Channel(ABC):
    """One chat platform. `config` is its section of config.json."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(self, name: str, config: Any, host: ChannelHost) -> None:
        self.name = name
        self.config = config
        self.host = host

    @abstractmethod
    async def run(self) -> None:
        """Connect and receive until cancelled; after any error it is called again, after a while.

        For each message call `await self.host.accept(inbound, names)`; `names` are further names of
        the sender that `allowFrom` may list, such as a user name.
        """

    @abstractmethod
    async def send(self, message: OutboundMessage) -> str:
        """Deliver a message and return the platform's receipt. Raises ChannelError."""

    async def show_typing(self, inbound: InboundMessage) -> None:
        """Tell the chat that an answer is coming; called every few seconds while a turn runs."""

    async def show_partial(self, message: OutboundMessage) -> None:
        """Show an unfinished answer; `send` of the same `message.id` completes it.

        When that is of the kind `progress`, the words were interim: they stay, and what comes later under
        this id is another message.
        """

    async def fetch(self, attachment: Attachment, target: Path) -> None:
        """Download the file `attachment.ref` names to `target`. Raises ChannelError."""
        raise ChannelError(f"{self.name} cannot download files.", permanent=True)


def is_allowed(allow_from: Collection[str], sender_id: str, names: Collection[str] = ()) -> bool:
    """Whether `allowFrom` admits a sender: everyone when empty or `*`, else those listed.

    An entry of digits is an id and nothing else, so that nobody gets in by choosing it as a name.
    """
    if not allow_from or "*" in allow_from:
        return True
    wanted = {_normal(entry) for entry in allow_from}
    spoken = {_normal(name) for name in names if not _normal(name).isdigit()}
    return sender_id in {entry.strip() for entry in allow_from} or not wanted.isdisjoint(spoken)


def _normal(name: str) -> str:
    return name.strip().removeprefix("@").casefold()
