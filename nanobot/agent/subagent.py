"""What the agent knows of subagents, whose turns are `run_turn` like any other; see `nanobot/subagents/`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from nanobot.agent.loop import TurnLimits
from nanobot.agent.tools.base import Tool, TurnContext
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.bus.events import TurnEvent, TurnFinished
from nanobot.messages import InboundMessage
from nanobot.store.records import Claim

SUBAGENT = "subagent"  # the channel of orders


@dataclass(frozen=True)
class TurnRole:
    """What a turn works with. `tools` None, `prompt` empty: the main agent's."""

    model: str
    limits: TurnLimits
    tools: Sequence[Tool] | None = None
    prompt: str = ""


class SubagentRules(Protocol):
    """What subagents may do, and what is told of them."""

    async def role(self, turn: TurnContext, tools: ToolRegistry, limits: TurnLimits) -> TurnRole:
        """The role of a subagent, its `model` empty for its parent's. Raises UsageError for a bad profile."""

    async def objection(self, claim: Claim, turn: TurnContext, own: int) -> str:
        """Why a turn may not call the model once more, having `own` calls for itself; "" when it may."""

    def observe(self, order: InboundMessage, event: TurnEvent) -> None:
        """Called for every event of a subagent's turn."""

    async def report(self, order: InboundMessage, finished: TurnFinished, notice: str) -> InboundMessage:
        """What the session that asked is told of its end; `notice` says which limit it met."""

    async def cancel(self, session_key: str, ids: Collection[str] | None) -> list[str]:
        """Cancel subagents of a session (None: all, silently); the ids of those that had not ended."""
