"""The spawn tool: a task for a subagent, whose report comes back later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from nanobot.agent.tools import TEXT, Tool, current_call_id, current_turn, object_schema
from nanobot.errors import ToolError, UsageError
from nanobot.subagents import LazySubagents


class SpawnTool(Tool):
    """A subagent's id comes from the call: when a crash makes the call run again, there is still one."""

    name = "spawn"
    description = (
        "Give a longer task to a subagent that works beside you. It sees nothing of this conversation."
        " Its report comes later as a message: do not wait, end your answer."
    )
    parameters = {}
    errors_are_text = False
    repeatable = True
    owner_only = True

    def __init__(
        self, profiles: Iterable[str], subagents: LazySubagents, tools: Callable[[], Sequence[str]]
    ) -> None:
        names = ", ".join(profiles)
        profile = {**TEXT, "description": f"One of: {names}"} if names else TEXT
        self.parameters = object_schema("task", task=TEXT, label=TEXT, profile=profile)
        self._subagents = subagents
        self._tools = tools

    async def execute(self, **kwargs: Any) -> str:
        task, profile = kwargs["task"].strip(), kwargs.get("profile") or ""
        if not task:
            raise ToolError("Give the task, with everything the subagent needs to know.")
        try:
            self._subagents.loaded.profile(profile, self._tools())
        except UsageError as error:
            raise ToolError(str(error)) from error
        label = kwargs.get("label") or ""
        turn, subagents = current_turn(), self._subagents.loaded
        self._subagents.spawned.add(turn.turn_id)
        subagent = await subagents.spawn(turn, current_call_id(), task, label, profile)
        return f"Subagent {subagent} has begun. Its report comes later, as a message here."
