"""A workspace with plugins, and turns of a scripted model that calls them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from nanobot.agent.tools import Tool, ToolContext
from nanobot.messages import ToolCall
from nanobot.plugins.folder import PluginTools
from tests.agent.harness import Played, Reply, play

PLAIN = """
from nanobot.agent.tools import Tool

class {cls}(Tool):
    name = "{name}"
    description = "A test."
    parameters = {{"type": "object", "properties": {{"value": {{"type": "string"}}}}}}

    {body}
"""


def plain(name: str, body: str = "async def execute(self, value='', **kwargs): return value") -> str:
    """A plugin with one tool; `body` goes into its class."""
    indented = textwrap.indent(textwrap.dedent(body), "    ").strip()
    return PLAIN.format(cls=name.title().replace("-", ""), name=name, body=indented)


class PluginFolder:
    """`{workspace}/tools` and what nanobot makes of it."""

    def __init__(self, workspace: Path, *, restricted: bool = False) -> None:
        self.workspace = workspace
        self.folder = workspace / "tools"
        self.folder.mkdir(parents=True)
        allowed = workspace if restricted else None
        context = ToolContext(workspace, allowed, str(workspace), 30, restricted, "brave key")
        self.source = PluginTools(self.folder, context, ["read_file", "exec"])

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    async def tools(self) -> dict[str, Tool]:
        return {tool.name: tool for tool in await self.source.tools()}

    async def faults(self) -> dict[str, str]:
        """Why something was skipped, by file."""
        return {report.origin: report.skipped for report in await self.source.report() if report.skipped}

    async def turn(self, name: str, /, **arguments: Any) -> Played:
        """A turn in which the model calls the tool once."""
        replies = [Reply(tool_calls=[ToolCall("c1", name, arguments)]), "done"]
        return await play(replies, list(await self.source.tools()))

    async def result(self, name: str, /, **arguments: Any) -> str:
        """What the model is told when it calls the tool."""
        (result,) = (await self.turn(name, **arguments)).results
        return str(result.content)
