"""Plugins: the tools of the owner's own files. Imported for the first file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanobot.agent.tools.base import Tool
    from nanobot.agent.tools.registry import ToolReport
    from nanobot.plugins.folder import PluginTools


class LazyPlugins:
    """A source of tools that loads nothing as long as `folder` holds no Python file."""

    def __init__(self, folder: Path, load: Callable[[], PluginTools]) -> None:
        self._folder = folder
        self._load = load

    @functools.cached_property
    def _loaded(self) -> PluginTools:
        return self._load()

    async def tools(self) -> Sequence[Tool]:
        return await self._loaded.tools() if self._is_used() else ()

    async def report(self) -> Sequence[ToolReport]:
        return await self._loaded.report() if self._is_used() else ()

    async def aclose(self) -> None:
        if "_loaded" in vars(self):
            await self._loaded.aclose()

    def _is_used(self) -> bool:
        return "_loaded" in vars(self) or any(self._folder.glob("*.py"))
