"""The memory_search tool: what is remembered and what was said before."""

from __future__ import annotations

from nanobot.agent.tools.base import Tool, current_turn
from nanobot.errors import StorageError, ToolError
from nanobot.memory.recall import Recall

_HITS, _MOST_HITS = 8, 30


class MemorySearchTool(Tool):
    """Finds what the chat of the turn may see."""

    name = "memory_search"
    description = (
        "Search remembered facts and earlier conversations by words, names and dates."
        " The id of a result (cli:direct#12) as query gives the whole message."
    )
    parameters = {
        "type": "object",
        "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["query"],
    }
    errors_are_text = False
    read_only = True
    repeatable = True

    def __init__(self, memory: Recall) -> None:
        self._memory = memory

    async def execute(self, query: str, limit: int = _HITS) -> str:
        try:
            found = await self._memory.look_up(query, current_turn().inbound, max(1, min(limit, _MOST_HITS)))
        except StorageError as error:
            raise ToolError(str(error)) from error
        return found or "Nothing found. Try other words, a name, or a date."
