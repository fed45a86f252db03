"""What the agent knows of subagents; the room `subagents` fulfils it.

A subagent's turn is `run_turn` like any other, in a session of its own. Its order is an inbound message of
the channel `subagent`; its report is one for the session that asked, with the address of its chat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nanobot.agent.loop import TurnLimits
from nanobot.agent.tools.base import TurnContext
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.bus.events import TurnEvent, TurnFinished
from nanobot.messages import InboundMessage, Message
from nanobot.session.store import Claim

SUBAGENT = "subagent"  # the channel of orders, and the origin of reports


@dataclass(frozen=True)
class Role:
    """What a turn works with. `tools` None, `prompt` empty: the main agent's."""

    model: str
    limits: TurnLimits
    tools: ToolRegistry | None = None
    prompt: str = ""


class SubagentRules(Protocol):
    """What subagents may do, and what is told of them."""

    async def role(self, turn: TurnContext, tools: ToolRegistry, limits: TurnLimits) -> Role:
        """The role of a subagent, given all tools and the main agent's limits; `model` empty: its parent's.

        Raises UsageError when its profile cannot be used.
        """

    async def objection(self, claim: Claim, turn: TurnContext, own: int) -> str:
        """Why a turn may not call the model once more, having `own` calls for itself; "" when it may."""

    def observe(self, order: InboundMessage, event: TurnEvent) -> None:
        """Called for every event of a subagent's turn."""

    async def report(self, order: InboundMessage, finished: TurnFinished, notice: str) -> InboundMessage:
        """What the session that asked is told of its end; `notice` says which limit it met."""

    def cancelled(self, order: InboundMessage) -> InboundMessage:
        """What the session that asked is told when the owner stops it."""


def is_order(about: TurnContext | InboundMessage) -> bool:
    """Whether this is the turn, or the order, of a subagent."""
    return about.metadata.get("origin") == SUBAGENT and "profile" in about.metadata


def is_report(about: TurnContext | InboundMessage) -> bool:
    """Whether this is a report, or a turn that was begun by one."""
    return about.metadata.get("origin") == SUBAGENT and "profile" not in about.metadata


def same_request(first: InboundMessage, other: InboundMessage) -> Message | None:
    """The other report for the model, if both are of subagents that the same message began."""
    same = (first.channel, first.chat_id, first.metadata) == (other.channel, other.chat_id, other.metadata)
    return Message.user(other.text) if same else None
