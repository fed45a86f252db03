"""What the store gives and takes: sessions, turns, deliveries, subagents. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from nanobot.messages import NOT_COUNTED, ContextUse, InboundMessage, Message, OutboundMessage

# What a session is for: people who talk, a job, the heartbeat, a subagent.
SessionKind = Literal["chat", "job", "heartbeat", "subagent"]


class SessionInfo(NamedTuple):
    """A conversation of the session `key`, of so many `messages`. `is_group`: several people write in it."""

    key: str
    title: str
    messages: int
    created_at: float
    updated_at: float
    is_group: bool = False
    kind: SessionKind = "chat"
    id: int = 0


class StoredMessage(NamedTuple):
    """A message of a session. `seq` counts from 1 within the session without gaps."""

    seq: int
    turn_id: int
    created_at: float
    message: Message


class Window(NamedTuple):
    """What the model sees of a conversation: `summary` of what was said up to message `start`, then all.

    Tool results up to message `shortened` are shown in short. `used` is how large the last request was.
    """

    start: int = 0
    shortened: int = 0
    summary: str = ""
    used: ContextUse = NOT_COUNTED
    conversation: int = 0


class OpenSession(NamedTuple):
    """What a turn begins with: the window, the newest messages in it, and what was set for the session."""

    window: Window
    messages: list[StoredMessage]
    settings: dict[str, str]


class ImportedSession(NamedTuple):
    """A conversation from a file. `seq` and `turn_id` of its messages only order and group them, and the
    model's context begins after message `start`, counted from 1."""

    key: str
    title: str
    messages: Sequence[StoredMessage]
    start: int = 0
    is_group: bool = False
    kind: SessionKind = "chat"


class Claim(NamedTuple):
    """The right to write to a running turn. `epoch` rises with every takeover of the turn.

    `turn_key` names the turn in ids that others see: no turn of another or a restored database has it.
    """

    turn_id: int
    session_key: str
    epoch: int
    turn_key: str


class InboxTurn(NamedTuple):
    """A claimed turn of an accepted message; `is_subagent`: in the session of a subagent."""

    claim: Claim
    inbound: InboundMessage
    is_subagent: bool = False


class SubagentInfo(NamedTuple):
    """A subagent and how it goes: `calls` of the model so far, `tokens` once it has ended.

    `state` is waiting, running, interrupted (its terminal is gone) or a StopReason.
    """

    id: str
    label: str
    profile: str
    state: str
    seconds: float
    calls: int
    tokens: int
    begun: bool


class Delivery(NamedTuple):
    """An outbound message due now. `attempts` counts the failed ones before."""

    outbox_id: int
    message: OutboundMessage
    attempts: int
    created_at: float


class OutboxEntry(NamedTuple):
    """A delivery that was given up (state `parked`) or is still tried (`pending`)."""

    outbox_id: int
    channel: str
    chat_id: str
    state: str
    attempts: int
    error: str
    text: str
