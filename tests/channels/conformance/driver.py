"""What the conformance suite asks of a platform under test.

A bundled channel takes part by a `Driver`: its platform on loopback, as people there use it, and its faults.
Add it to `DRIVERS` in `conftest.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Shown:
    """A message of the bot as the owner sees it: without markup; `code` are the blocks of code in it."""

    text: str
    code: tuple[str, ...] = ()
    file: str = ""
    data: bytes = b""


@dataclass(frozen=True)
class Rejected:
    """A section that cannot work, and what the owner is told."""

    settings: dict[str, Any] = field(default_factory=dict)
    words: str = ""


class Driver(ABC):
    """A platform on loopback with two people who write the bot directly: the owner and a stranger.

    `limit` is how much text one message may show, `sdk` the module without which the channel is of no use.
    `acknowledges`: the platform keeps a message until the bot has confirmed it. `refuses_markup`: it may
    turn formatted text down. `deduplicates`: it shows a message that is sent again under its key once.
    """

    channel: str
    sdk: str
    limit: int
    owner: str
    stranger: str
    rejected: tuple[Rejected, ...]
    acknowledges = True
    refuses_markup = True
    deduplicates = False

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self) -> None:
        """Stop, and fail if the bot did anything that the platform does not document."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @abstractmethod
    def section(self, **more: Any) -> dict[str, Any]:
        """The channel's section of config.json."""

    @abstractmethod
    def chat(self) -> str:
        """The id of the owner's chat with the bot."""

    # What people and the platform do

    @abstractmethod
    def says(self, text: str, *, stranger: bool = False, file: tuple[str, bytes] | None = None) -> object:
        """A direct message to the bot. Returns what `repeat` takes."""

    @abstractmethod
    def repeat(self, said: Any) -> None:
        """The platform delivers a message again."""

    @abstractmethod
    def poison(self) -> None:
        """The platform delivers something that nobody can read."""

    @abstractmethod
    def rate_limit(self, seconds: int) -> None:
        """The next message is refused: too many requests, try again in `seconds`."""

    @abstractmethod
    def lose_next(self) -> None:
        """The connection breaks before the next message reaches the platform."""

    def refuse_markup(self) -> None:
        """The next formatted text is refused."""
        raise AssertionError("only for platforms with refuses_markup")

    # What has happened

    @abstractmethod
    def shown(self) -> list[Shown]:
        """What the bot has sent to the owner and is still to be seen, oldest first."""

    @abstractmethod
    def waiting(self) -> int:
        """How many messages the platform would deliver again if the bot started anew."""

    @abstractmethod
    def noticed(self, *, stranger: bool) -> bool:
        """Whether this person, or anybody looking at what they sent, has seen a sign of the bot."""

    @abstractmethod
    async def wait_for(self, condition: Callable[[], object], seconds: float = 15.0) -> None:
        """Until it is true, looked at again after every change."""

    def texts(self) -> list[str]:
        return [shown.text for shown in self.shown() if not shown.file]
