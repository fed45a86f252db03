"""The spawn tool: a task for a subagent, whose report comes back later."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nanobot.agent.tools.base import Tool, current_call_id, current_turn
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.errors import ToolError, UsageError
from nanobot.subagents.orders import Subagents


class SpawnTool(Tool):
    """A subagent's id comes from the call: when a crash makes the call run again, there is still one."""

    errors_are_text = False
    repeatable = True
    owner_only = True

    def __init__(self, subagents: Subagents, tools: Callable[[], Awaitable[ToolRegistry]]) -> None:
        self._subagents = subagents
        self._tools = tools

    @property
    def name(self) -> str:
        return "spawn"

    @property
    def description(self) -> str:
        return (
            "Give a longer task to a subagent that works beside you. It sees nothing of this conversation."
            " Its report comes later as a message: do not wait, end your answer."
        )

    @property
    def parameters(self) -> dict[str, Any]:
        text, names = {"type": "string"}, ", ".join(self._subagents.profiles)
        profile = {**text, "description": f"One of: {names}"} if names else text
        return {
            "type": "object",
            "properties": {"task": text, "label": text, "profile": profile},
            "required": ["task"],
        }

    async def execute(self, **kwargs: Any) -> str:
        task, profile = kwargs["task"].strip(), kwargs.get("profile") or ""
        if not task:
            raise ToolError("Give the task, with everything the subagent needs to know.")
        try:
            self._subagents.profile(profile, (await self._tools()).for_subagents)
        except UsageError as error:
            raise ToolError(str(error)) from error
        label = kwargs.get("label") or ""
        subagent = await self._subagents.spawn(current_turn(), current_call_id(), task, label, profile)
        return f"Subagent {subagent} has begun. Its report comes later, as a message here."
