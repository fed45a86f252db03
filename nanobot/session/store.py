"""The Store protocol: everything nanobot must not forget, behind one small interface.

No SQL lives outside `session/`. Nothing here assumes a single process: workers are identified,
a turn belongs to the worker that claimed it, and every write of a turn carries its claim, so a
worker that lost its turn (killed, paused, taken over) cannot write to it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from nanobot.messages import InboundMessage, Message, OutboundMessage, StopReason

Origin = Literal["terminal", "inbox"]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A conversation. Times are Unix seconds; `messages` counts everything ever said in it."""

    key: str
    title: str
    messages: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a session. `seq` counts from 1 within the session without gaps."""

    seq: int
    turn_id: int
    created_at: float
    message: Message


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to a running turn. `epoch` rises with every takeover of the turn."""

    turn_id: int
    session_key: str
    epoch: int


@dataclass(frozen=True, slots=True)
class InterruptedTurn:
    """A turn that was cut off. `text` is what the user had asked."""

    turn_id: int
    text: str


@dataclass(frozen=True, slots=True)
class InboxTurn:
    """A claimed turn of an accepted message; `resumed` when another worker had begun it."""

    claim: Claim
    inbound: InboundMessage
    resumed: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """An outbound message due now. `attempts` counts the failed ones before."""

    outbox_id: int
    message: OutboundMessage
    attempts: int
    created_at: float


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A delivery that was given up (state `parked`) or is still tried (`pending`)."""

    outbox_id: int
    channel: str
    chat_id: str
    state: str
    attempts: int
    error: str
    text: str


class Store(Protocol):
    """All methods raise StorageError when the disk or the database fails, TurnTakenOver on a lost claim."""

    # Sessions and their messages

    async def sessions(self, limit: int = 50) -> list[SessionInfo]:
        """Newest first."""

    async def session(self, key: str) -> SessionInfo | None: ...

    async def history(self, key: str, *, after: int = 0, limit: int | None = None) -> list[StoredMessage]:
        """Everything said after message `after`, oldest first."""

    async def context(self, key: str, limit: int) -> list[StoredMessage]:
        """The newest `limit` messages after the session's start, oldest first."""

    async def start_over(self, key: str) -> None:
        """Begin the model's context after the newest message; nothing is deleted."""

    async def move_start(self, key: str, seq: int) -> None:
        """Begin the model's context after message `seq`; never moves back."""

    async def settings(self, key: str) -> dict[str, str]: ...

    async def set_setting(self, key: str, name: str, value: str) -> None: ...

    # Turns

    async def begin_turn(self, key: str) -> Claim | None:
        """Open a terminal's turn; None while another turn of the session runs."""

    async def append(self, claim: Claim, message: Message) -> StoredMessage: ...

    async def record_intent(self, claim: Claim, call_id: str) -> None:
        """Note that a tool call is about to run."""

    async def intents(self, claim: Claim) -> frozenset[str]:
        """The calls of the turn that were about to run."""

    async def finish_turn(
        self, claim: Claim, reason: StopReason, error: str = "", outbound: Sequence[OutboundMessage] = ()
    ) -> None:
        """Close the turn, acknowledge its messages and queue its replies, in one transaction."""

    async def last_interrupted(self, key: str) -> InterruptedTurn | None:
        """The session's newest turn, when its terminal went away in the middle of it."""

    async def renew_worker(self) -> None:
        """Give a sign of life; due every few seconds while turns run."""

    async def lead(self, role: str) -> bool:
        """Take or keep a role that one living worker has at a time; False while another has it."""

    async def resign(self, role: str) -> None:
        """Give a role up, so that another worker can take it at once."""

    async def version(self) -> int:
        """A number that changes whenever something was stored, by this process or another one."""

    # Inbox and outbox

    async def accept(self, inbound: InboundMessage) -> bool:
        """Store an inbound message; False when (channel, external_id) was accepted before."""

    async def claim_next(self) -> InboxTurn | None:
        """The next turn to work on, or None."""

    async def take_steering(
        self, claim: Claim, to_message: Callable[[InboundMessage], Message | None]
    ) -> list[StoredMessage]:
        """Add the session's waiting messages to its running turn, until `to_message` declines one."""

    async def enqueue(self, message: OutboundMessage) -> bool:
        """Queue a delivery; False when its id was queued before."""

    async def sent_in_turn(self, turn_id: int, channel: str, chat_id: str) -> bool:
        """Whether a tool call of the turn queued a message for this chat."""

    async def knows_chat(self, channel: str, chat_id: str) -> bool:
        """Whether this chat has ever written."""

    async def latest_chat(self, channels: Sequence[str]) -> tuple[str, str] | None:
        """The (channel, chat id) that wrote last, among these channels."""

    async def due_deliveries(self, limit: int = 32) -> list[Delivery]:
        """At most one delivery a chat, so that messages never overtake each other."""

    async def delivered(self, outbox_id: int, receipt: str) -> None: ...

    async def delivery_failed(self, outbox_id: int, error: str, next_at: float | None) -> None:
        """Try again at `next_at` (Unix seconds), or park the delivery when that is None."""

    async def outbox(self, limit: int = 100) -> list[OutboxEntry]:
        """Deliveries that wait or were parked."""

    async def retry_parked(self) -> int:
        """Make parked deliveries due again; returns how many."""

    async def aclose(self) -> None: ...
