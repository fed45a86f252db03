"""What the agent needs so that a conversation never outgrows the model's window; see `memory/window.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nanobot.messages import ContextUse, Message
from nanobot.session.store import StoredMessage, Window


class Summariser(Protocol):
    """Puts a part of a conversation into words that stand for it from then on."""

    async def summarise(self, session_key: str, messages: Sequence[StoredMessage]) -> str:
        """Raises NanobotError when it cannot."""


class Fit(Protocol):
    """Asked before every model call: what the model is shown of the messages of a turn."""

    async def __call__(
        self, messages: Sequence[Message], *, too_long: bool, notify: Callable[[str], None]
    ) -> Sequence[Message]:
        """`too_long`: the provider refused what was shown last. `notify` tells the owner what takes time."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Tokens of the model's `window`, of which `answer` are for its reply; `fixed` bytes of prompt and tools.

    `messages` is how many may stand before the running turn; a small chat model is shown `only_words`.
    """

    window: int
    answer: int
    fixed: int
    messages: int
    only_words: bool = False


class Conversation(Protocol):
    """What a model sees of a session."""

    window: Window
    entries: list[StoredMessage]

    @property
    def fit(self) -> Fit: ...

    def shown(self) -> list[Message]:
        """The messages of a request as it stands."""

    def use(self, tokens: int = 0) -> ContextUse:
        """How large the request is that was shown last; the provider counted `tokens`."""

    async def compact(self) -> None:
        """Let a summary stand for everything before the newest turn."""


# Session key, id of its running turn (0: none), limits. Raises StorageError.
OpenConversation = Callable[[str, int, Limits], Awaitable[Conversation]]
