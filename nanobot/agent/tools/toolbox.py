"""All tools of this process: the built-in ones first, then what sources (plugins, MCP) have just now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from nanobot.agent.tools.base import Tool
from nanobot.agent.tools.registry import ToolRegistry, ToolReport, ToolSource

log = logging.getLogger(__name__)


class Toolbox:
    """Built-in tools win over tools of sources, earlier sources over later ones."""

    def __init__(self, built_in: Sequence[Tool], sources: Sequence[ToolSource] = ()) -> None:
        self._built_in = list(built_in)
        self._sources = sources
        self._newest: tuple[list[Tool], ToolRegistry] = (self._built_in, ToolRegistry(built_in))

    async def registry(self) -> ToolRegistry:
        """The tools for the next turn; the same object as long as nothing changed."""
        tools = list(self._built_in)
        for source in self._sources:
            for tool in await source.tools():
                if any(tool.name == other.name for other in tools):
                    log.warning("A second tool called %r is left out.", tool.name)
                else:
                    tools.append(tool)
        if tools != self._newest[0]:
            self._newest = (tools, ToolRegistry(tools))
        return self._newest[1]

    async def report(self) -> list[ToolReport]:
        """Every tool in the order of `registry`, those that are left out as well."""
        reports = [ToolReport(tool.name, "built-in") for tool in self._built_in]
        for source in self._sources:
            for report in await source.report():
                taken = any(report.name == other.name and not other.skipped for other in reports)
                second = report.name and taken and not report.skipped
                reports.append(replace(report, skipped="another tool has this name") if second else report)
        return reports

    async def aclose(self) -> None:
        for source in self._sources:
            await source.aclose()
