"""The plugins of `{workspace}/tools`, noticed for the next turn when they come, change or go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from nanobot.agent.tools import Tool, ToolContext
from nanobot.agent.tools.registry import ToolReport
from nanobot.errors import ToolError
from nanobot.plugins.files import PluginTool, fresh_spec, load_tools, module_name
from nanobot.plugins.threads import PluginThreads

log = logging.getLogger(__name__)

_LOADING_LIMIT = 5.0  # seconds for one file

_Stamp = tuple[int, ...]  # differs when a file was changed


@dataclass(frozen=True)
class _Loaded:
    """A file that was loaded, or what is wrong with it."""

    threads: PluginThreads
    tools: Sequence[PluginTool]
    faults: Sequence[str]


class PluginTools:
    """The tools of the files in `folder`, in the order of the files' names; of equal names the first wins.

    A file is loaded again when it was changed, and all are when one was changed that others import.
    `taken` are nanobot's own names, also those of tools that are switched off.
    """

    def __init__(self, folder: Path, context: ToolContext, taken: Collection[str]) -> None:
        self._folder = folder
        self._context = context
        self._taken = frozenset(taken)
        self._stamps: dict[str, _Stamp] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._tools: Sequence[Tool] = ()
        self._reports: Sequence[ToolReport] = ()
        self._helpers = _HelperFinder(folder)
        self._loading = asyncio.Lock()

    async def tools(self) -> Sequence[Tool]:
        await self._refresh()
        return self._tools

    async def report(self) -> Sequence[ToolReport]:
        await self._refresh()
        return self._reports

    async def aclose(self) -> None:
        self._forget(list(self._loaded))
        self._helpers.forget()
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self._helpers)

    async def _refresh(self) -> None:
        """Load what was changed. Turns that begin meanwhile wait, then look for what it could not see."""
        async with self._loading:
            stamps = self._look()
            if stamps != self._stamps:
                await self._load(stamps)

    def _look(self) -> dict[str, _Stamp]:
        stamps: dict[str, _Stamp] = {}
        try:
            with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".py") and not entry.name.startswith("."):
                        stamps[entry.name] = _stamp(entry)
        except OSError as error:
            log.warning("Cannot look for plugins in %s: %s", self._folder, error.strerror)
        return stamps

    async def _load(self, stamps: dict[str, _Stamp]) -> None:
        """Bring what is loaded up to date with `stamps`."""
        if self._helpers not in sys.meta_path:
            sys.meta_path.append(self._helpers)
        self._forget(self._outdated(stamps))
        new = [name for name in sorted(stamps) if name[0] != "_" and name not in self._loaded]
        for name in new:
            self._loaded[name] = await self._load_file(self._folder / name)
        self._stamps = stamps
        self._register(new)

    def _outdated(self, stamps: dict[str, _Stamp]) -> set[str]:
        """What is to be loaded again, or is gone."""
        names = stamps.keys() | self._stamps.keys()
        changed = {name for name in names if stamps.get(name) != self._stamps.get(name)}
        if any(name[0] == "_" or name.removesuffix(".py") in self._helpers.imported for name in changed):
            self._helpers.forget()
            return names
        return changed | {name for name, file in self._loaded.items() if file.faults}

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._loaded:
                self._loaded.pop(name).threads.close()
                sys.modules.pop(module_name(self._folder / name), None)

    async def _load_file(self, file: Path) -> _Loaded:
        threads = PluginThreads(file)
        tools, faults = [], []
        try:
            if not os.path.isfile(file):  # noqa: PTH113  # also when it cannot be looked at
                raise ToolError("It is no regular file.")
            work = partial(load_tools, file, self._context, threads)
            tools, faults = await threads.run(work, _LOADING_LIMIT)
            if not tools and not faults and file.stem not in self._helpers.imported:
                raise ToolError(
                    "It defines no subclass of Tool. If it only helps others, begin its name with _."
                )
        except ToolError as error:
            faults = [str(error)]
        except TimeoutError:
            faults = [
                f"It was not loaded after {_LOADING_LIMIT:g} seconds. Import slow libraries in `execute`."
            ]
        return _Loaded(threads, tools, faults)

    def _register(self, new: Collection[str]) -> None:
        """Choose the tools that are offered, and log what is new."""
        offered: dict[str, PluginTool] = {}
        reports = []
        for file in sorted(self._loaded):
            for tool in self._loaded[file].tools:
                skipped = "a plugin before it has this name" if tool.name in offered else ""
                skipped = "built-in takes priority" if tool.name in self._taken else skipped
                if not skipped:
                    offered[tool.name] = tool
                reports.append(ToolReport(tool.name, f"plugin {file}", skipped))
            reports += [ToolReport("", f"plugin {file}", fault) for fault in self._loaded[file].faults]
        for name, origin, skipped in reports:
            changed = (name, origin, skipped) not in self._reports
            if not skipped and (changed or origin.removeprefix("plugin ") in new):
                log.info("Registered plugin tool '%s'", name)
            elif skipped and changed:
                what = f"Plugin tool '{name}' skipped —" if name else f"Failed to load {origin}:"
                log.warning("%s %s", what, skipped)
        self._tools, self._reports = tuple(offered.values()), reports


def _stamp(entry: os.DirEntry[str]) -> _Stamp:
    try:
        about = entry.stat()
    except OSError:  # a link that leads nowhere
        return ()
    return about.st_mode, about.st_ino, about.st_size, about.st_mtime_ns


class _HelperFinder(MetaPathFinder):
    """Lets plugins import files of their folder. Libraries of the same name win."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.imported: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._folder / f"{fullname}.py"
        if path is not None or not os.path.isfile(file):  # noqa: PTH113  # every failing import comes here
            return None
        self.imported.add(fullname)
        return fresh_spec(fullname, file)

    def forget(self) -> None:
        """Let the next import read the files again."""
        for name in self.imported:
            sys.modules.pop(name, None)
        self.imported.clear()
