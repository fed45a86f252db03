"""Plugins: the tools of the owner's own files. Imported for the first file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanobot.agent.tools import Tool
    from nanobot.agent.tools.registry import ToolReport
    from nanobot.plugins.folder import PluginTools


class LazyPlugins:
    """A source of tools that loads nothing as long as `folder` holds no Python file."""

    def __init__(self, folder: Path, load: Callable[[], PluginTools]) -> None:
        self._folder = folder
        self._load = load
        self._loaded: PluginTools | None = None

    async def tools(self) -> Sequence[Tool]:
        plugins = self._plugins()
        return await plugins.tools() if plugins else ()

    async def report(self) -> Sequence[ToolReport]:
        plugins = self._plugins()
        return await plugins.report() if plugins else ()

    async def aclose(self) -> None:
        if self._loaded:
            await self._loaded.aclose()

    def _plugins(self) -> PluginTools | None:
        if self._loaded is None and any(self._folder.glob("*.py")):
            self._loaded = self._load()
        return self._loaded
