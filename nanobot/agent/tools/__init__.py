"""Public plugin API: `from nanobot.agent.tools import Tool, ToolContext`."""

from nanobot.agent.tools.base import Tool, ToolContext, ToolOutput, TurnContext, current_turn

__all__ = ["Tool", "ToolContext", "ToolOutput", "TurnContext", "current_turn"]
