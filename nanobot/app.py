"""The composition root: Config -> App. The one place that wires everything together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from nanobot import paths
from nanobot.agent.assistant import Assistant, ModelPool
from nanobot.agent.context import PromptBuilder
from nanobot.agent.dispatch import Dispatcher
from nanobot.agent.tools.registry import Toolbox, ToolSource
from nanobot.agent.window import read_record
from nanobot.bus.hub import Hub
from nanobot.config.schema import Config
from nanobot.memory.maintenance import MemoryMaintenance
from nanobot.memory.recall import MemorySearchTool, MemorySection, Recall
from nanobot.plugins import LazyPlugins
from nanobot.skills.library import BUNDLED, SkillsSection, library_of
from nanobot.store.store import Store
from nanobot.subagents import LazySubagents
from nanobot.tools.built_in import SWITCHABLE, build_tools, commands_of, tool_context
from nanobot.tools.spawn import SpawnTool
from nanobot.workspace import create_workspace

if TYPE_CHECKING:
    from nanobot.mcp.source import McpTools
    from nanobot.plugins.folder import PluginTools
    from nanobot.subagents.orders import Subagents


class App:
    """nanobot, wired; nothing is opened before it is used. Use `open_app`."""

    def __init__(self, config: Config, *, model: str = "") -> None:
        self.config = config
        self.notices: list[str] = []  # what the owner should know before the first turn
        self.store = store = Store(paths.database_file())
        self.models = models = ModelPool(config)
        self.workspace = config.workspace_path
        folder = self.workspace / "memory"
        memory = MemorySection(folder, config.memory.prompt_bytes)
        self.recall = Recall(config.memory, store, memory, folder)
        self.skills = library_of(config)
        skills = SkillsSection(self.skills, config.skills.prompt_bytes, config.skills.always_bytes)
        prompt = PromptBuilder(self.workspace, [skills, memory])
        self.hub = Hub(store)

        def subagents() -> Subagents:
            from nanobot.subagents.orders import Subagents

            return Subagents(config, store, self.hub, self.skills, prompt.owner_parts)

        self.subagents = LazySubagents(subagents)
        spawn = SpawnTool(config.agents.subagent_profiles, self.subagents, lambda: self.tools.for_subagents)
        self.programs = commands_of(config)
        own = build_tools(config, store, BUNDLED, functools.partial(read_record, store), self.programs)
        built_in = [*own, spawn, MemorySearchTool(self.recall)]
        taken = {*SWITCHABLE, *(tool.name for tool in built_in)}

        def plugins() -> PluginTools:
            from nanobot.plugins.folder import PluginTools

            return PluginTools(self.workspace / "tools", tool_context(config), taken)

        sources: list[ToolSource] = [LazyPlugins(self.workspace / "tools", plugins)]
        self.mcp: McpTools | None = None
        if any(server.usable for server in config.tools.mcp_servers.values()):
            from nanobot.mcp.source import McpTools

            self.mcp = McpTools(config.tools.mcp_servers, config.tools.web.allow_private)
            sources.append(self.mcp)
        self.tools = Toolbox(built_in, sources)
        self.memory = MemoryMaintenance(config, store, models, lambda key: self.assistant.model_of(key))
        self.assistant = Assistant(
            config,
            store,
            models,
            self.tools,
            prompt,
            self.subagents,
            named=model,
            recall=self.recall.before_turn,
            summarise=self.memory.summarise,
        )
        self.dispatcher = Dispatcher(self.assistant, self.hub)

    @contextlib.asynccontextmanager
    async def working_for_itself(self) -> AsyncIterator[asyncio.Task[None]]:
        """Run turns of what this process submits with `owner` set to `owner`, until the end of the block.

        The task fails with StorageError when the store does. What runs at the end is stopped.
        """
        working = asyncio.create_task(self.dispatcher.run(self.owner))
        try:
            yield working
        finally:
            working.cancel()
            await asyncio.wait([working])

    async def profile_faults(self) -> list[str]:
        """What is wrong with the configured subagent profiles, in words for the owner."""
        if not self.config.agents.subagent_profiles:
            return []
        await self.tools.refresh()
        return list(self.subagents.loaded.faults(self.tools.for_subagents))

    @property
    def owner(self) -> str:
        """The name of this process."""
        return self.store.workers.owner

    async def aclose(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            # The last one first.
            for part in (self.store, self.models, self.recall, self.tools, self.programs):
                stack.push_async_callback(part.aclose)


@contextlib.asynccontextmanager
async def open_app(config: Config, *, model: str = "") -> AsyncIterator[App]:
    """Everything `nanobot agent` needs: workspace, store, model, tools. Raises NanobotError."""
    create_workspace(config.workspace_path)
    async with contextlib.aclosing(App(config, model=model)) as app:
        if any((folder / "sessions").is_dir() for folder in (app.workspace, paths.home())):
            from nanobot.legacy.sessions_file import import_sessions

            app.notices += await import_sessions(app.store, paths.home(), app.workspace)
        if complaint := app.skills.complaint():
            from nanobot.store.imports import note_import

            is_new = await app.store.database.write(note_import, complaint)
            app.notices += [complaint] * is_new  # `skills list` and `status` say it each time
        yield app
