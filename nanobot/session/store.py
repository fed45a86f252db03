"""The Store protocol: everything nanobot must not forget, behind one small interface.

Adapters have rooms of their own; the embedded one is `storage/`, and no SQL is outside of it. Nothing
here assumes a single process: workers are identified, a turn belongs to the worker that claimed it, and
every write of a turn carries its claim, so a worker that lost its turn cannot write to it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from nanobot.messages import (
    NOT_COUNTED,
    ContextUse,
    InboundMessage,
    Message,
    OutboundMessage,
    StopReason,
    Trust,
)

RENEW = 5.0  # seconds between two signs of life of a worker that has turns
GATEWAY_ROLE = "gateway"  # for `lead`, `resign` and `leader`

Origin = Literal["terminal", "inbox"]
# What a session is for: people who talk, a job, the heartbeat, a subagent.
SessionKind = Literal["chat", "job", "heartbeat", "subagent"]


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A conversation. Times are Unix seconds; `messages` counts everything ever said in it.

    `is_group`: several people write in it.
    """

    key: str
    title: str
    messages: int
    created_at: float
    updated_at: float
    is_group: bool = False
    kind: SessionKind = "chat"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of a session. `seq` counts from 1 within the session without gaps."""

    seq: int
    turn_id: int
    created_at: float
    message: Message


@dataclass(frozen=True, slots=True)
class Window:
    """What the model sees of a session: `summary` for what was said up to message `start`, then the messages.

    Tool results up to message `shortened` are shown in short. `used` is how large the last request was.
    """

    start: int = 0
    shortened: int = 0
    summary: str = ""
    used: ContextUse = NOT_COUNTED


@dataclass(frozen=True, slots=True)
class ImportedSession:
    """A conversation from a file. `seq` and `turn_id` of its messages only order and group them.

    The model's context begins after message `start`, counted from 1.
    """

    key: str
    title: str
    messages: Sequence[StoredMessage]
    start: int = 0
    is_group: bool = False
    kind: SessionKind = "chat"


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message in the log of all sessions: `id` rises with every message stored."""

    id: int
    session_key: str
    is_group: bool
    stored: StoredMessage


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write to a running turn. `epoch` rises with every takeover of the turn."""

    turn_id: int
    session_key: str
    epoch: int


@dataclass(frozen=True, slots=True)
class InterruptedTurn:
    """A turn that was cut off. `text` is what the user had asked; "" if it told of a subagent."""

    turn_id: int
    text: str


@dataclass(frozen=True, slots=True)
class InboxTurn:
    """A claimed turn of an accepted message; `resumed` when another worker had begun it."""

    claim: Claim
    inbound: InboundMessage
    resumed: bool
    is_subagent: bool = False  # its session is a subagent's


@dataclass(frozen=True, slots=True)
class SubagentInfo:
    """A subagent of the session `parent` and how it goes.

    `state` is waiting, running, interrupted (its terminal is gone) or a StopReason. `calls` counts its model
    calls; `tokens` is known when it has ended.
    """

    id: str
    parent: str
    label: str
    profile: str
    state: str
    seconds: float
    calls: int
    tokens: int


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


@dataclass(frozen=True, slots=True)
class Job:
    """A message that is due at times. `schedule` is as in cron/schedule.py; times are Unix seconds.

    The channel `cli` has no chat to deliver to. `metadata` is what the channel needs to reply; `trust` is
    that of whoever set it up.
    The last three fields tell how it went so far; they are derived and not stored with the job.
    """

    id: str
    name: str
    message: str
    schedule: Mapping[str, Any]
    channel: str = "cli"
    chat_id: str = "direct"
    deliver: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_group: bool = False
    trust: Trust = "owner"
    enabled: bool = True
    next_at: float | None = None
    created_at: float = 0.0
    last_status: str = ""  # ok, error, running, skipped, or empty when it never ran
    last_error: str = ""
    missed: int = 0  # slots among the latest that nobody was there for


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the outbox. `error` is the newest one that led to parking."""

    pending: int
    parked: int
    error: str


class Store(Protocol):
    """All methods raise StorageError when the disk or the database fails, TurnTakenOver on a lost claim."""

    # Sessions and their messages

    async def sessions(self, limit: int = 50) -> list[SessionInfo]:
        """Newest first."""

    async def session(self, key: str) -> SessionInfo | None: ...

    async def history(self, key: str, *, after: int = 0, limit: int | None = None) -> list[StoredMessage]:
        """Everything said after message `after`, oldest first."""

    async def context(self, key: str, limit: int) -> list[StoredMessage]:
        """The newest `limit` messages after the session's start, oldest first.

        When they begin in the middle of the running turn, its first message is added in front.
        """

    async def log(self, first: int, limit: int) -> list[LoggedMessage]:
        """The messages of all sessions from id `first` on, in the order of their ids."""

    async def start_over(self, key: str) -> None:
        """Begin the model's context after the newest message; nothing is deleted."""

    async def window(self, key: str) -> Window: ...

    async def move_window(self, key: str, before: Window, after: Window) -> bool:
        """Show the model less; False when somebody has changed the window since `before` was read."""

    async def rename(self, key: str, title: str) -> bool:
        """Set the title; False when there is no such session."""

    async def import_session(self, session: ImportedSession, name: str) -> str:
        """Add a conversation, once for each `name`; its key, made unique, or "" if nothing was to add."""

    async def imported(self, names: Sequence[str]) -> frozenset[str]:
        """Those of `names` that were imported before."""

    async def settings(self, key: str) -> dict[str, str]: ...

    async def set_setting(self, key: str, name: str, value: str) -> None: ...

    # Turns

    async def begin_turn(
        self, key: str, family: int | None = None, kind: SessionKind = "chat"
    ) -> Claim | None:
        """Open a terminal's turn; None while another turn of the session runs.

        The turn shares the model calls of the turn `family`, which (by way of others) spawned it. `kind` is
        that of a session which this begins.
        """

    async def append(self, claim: Claim, *messages: Message) -> list[StoredMessage]:
        """Add messages to a running turn, all or none."""

    async def record_intent(self, claim: Claim, call_id: str) -> None:
        """Note that a tool call is about to run."""

    async def intents(self, claim: Claim) -> frozenset[str]:
        """The calls of the turn that were about to run."""

    async def finish_turn(
        self,
        claim: Claim,
        reason: StopReason,
        error: str = "",
        outbound: Sequence[OutboundMessage] = (),
        used: ContextUse = NOT_COUNTED,
        *,
        inbound: InboundMessage | None = None,
        tokens: int = 0,
    ) -> None:
        """Close the turn, acknowledge its messages, queue its replies, accept `inbound`: one transaction."""

    async def reserve_call(
        self, claim: Claim, family: int, own: int, together: int, *, first_is_free: bool = False
    ) -> bool:
        """Allow one more model call; False after `own` of the turn, or `together` of the whole family."""

    async def family_spent(self, family: int) -> tuple[int, float]:
        """Model calls of a turn and all that share them, and when it began (Unix seconds)."""

    async def last_interrupted(self, key: str) -> InterruptedTurn | None:
        """The session's newest turn, when its terminal went away in the middle of it."""

    async def renew_worker(self) -> None:
        """Give a sign of life; due every few seconds while turns run."""

    async def lead(self, role: str) -> bool:
        """Take or keep a role that one living worker has at a time; False while another has it."""

    async def resign(self, role: str) -> None:
        """Give up a role and all running turns, so that any worker can take them at once."""

    async def leader(self, role: str) -> int | None:
        """The process id of the living worker that has the role."""

    async def version(self) -> int:
        """A number that changes whenever something was stored, by this process or another one."""

    # Inbox and outbox

    async def accept(self, inbound: InboundMessage) -> bool:
        """Store an inbound message; False when (channel, external_id) was accepted before."""

    async def claim_next(self, *, chats: bool = True, subagents: bool = True) -> InboxTurn | None:
        """The next turn to work on, in a session of a subagent or another one, or None."""

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

    async def backlog(self) -> Backlog:
        """How many deliveries wait and how many were parked."""

    async def retry_parked(self) -> int:
        """Make parked deliveries due again; returns how many."""

    # Subagents

    async def add_subagent(
        self, order: InboundMessage, label: str, profile: str, *, in_terminal: bool
    ) -> bool:
        """Store a subagent, once; its id is the order's `chat_id`, its parent the session in `reply_to`.

        A terminal runs it itself, else the inbox has it.
        """

    async def subagent(self, subagent_id: str) -> SubagentInfo | None: ...

    async def subagents(self, parent: str, limit: int = 20) -> list[SubagentInfo]:
        """The newest subagents of a session, oldest first."""

    async def cancel_subagents(
        self,
        parent: str,
        ids: Collection[str] | None,
        report: Callable[[InboundMessage, str], InboundMessage] | None = None,
    ) -> list[str]:
        """Cancel those of a session (None: all) that have not ended, and accept a `report` about each order.

        `report` is given the order and the label.

        Returns their ids. Those that wait never begin, also after a crash; who runs the others stops them.
        """

    async def lost_subagents(self, parent: str) -> list[SubagentInfo]:
        """Those whose terminal is gone before their session was told how they ended; each is given once."""

    async def settle_subagents(self, ids: Collection[str]) -> None:
        """Note that the session of these was told how they ended."""

    # Schedules

    async def jobs(self) -> list[Job]:
        """All jobs, oldest first."""

    async def add_jobs(self, jobs: Sequence[Job], imported: str = "") -> bool:
        """Add jobs whose id is new; False when the file `imported` was taken over before."""

    async def remove_job(self, job_id: str) -> bool: ...

    async def advance_job(
        self, job: Job, next_at: float | None, missed: Sequence[float] = (), due: InboundMessage | None = None
    ) -> bool:
        """Move a job on to `next_at` (None: switch it off), and accept `due` for its newest slot, at once.

        `missed` are older slots; the newest is missed too while an earlier `due` still waits. A job that
        fires for the last time is removed. False when somebody else has moved the job since it was read.
        """

    async def accept_tick(self, inbound: InboundMessage, slot: float) -> bool:
        """Accept a heartbeat in a fresh context, once a slot and never beside another one."""

    async def aclose(self) -> None: ...
