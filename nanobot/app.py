"""The composition root: Config -> App. The one place that wires everything together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

from nanobot import paths
from nanobot.agent.assistant import Assistant, ModelPool
from nanobot.agent.context import PromptBuilder
from nanobot.agent.dispatch import Dispatcher
from nanobot.agent.tools.toolbox import Toolbox
from nanobot.agent.window import read_record
from nanobot.bus.hub import Hub
from nanobot.config.schema import Config
from nanobot.mcp import configured_servers
from nanobot.memory.maintenance import MemoryMaintenance
from nanobot.memory.prompt import MemorySection
from nanobot.memory.recall import Recall
from nanobot.memory.search_tool import MemorySearchTool
from nanobot.plugins.folder import PluginTools
from nanobot.skills.library import BUNDLED, library_of
from nanobot.skills.prompt import SkillsSection
from nanobot.store.store import open_store
from nanobot.subagents.orders import Subagents
from nanobot.tools.built_in import SWITCHABLE, build_tools, tool_context
from nanobot.tools.shell import BackgroundPrograms
from nanobot.tools.spawn import SpawnTool
from nanobot.workspace import create_workspace


class App:
    """nanobot, wired; nothing is opened before it is used. Use `open_app`."""

    def __init__(self, config: Config, *, model: str = "") -> None:
        self.config = config
        self.notices: list[str] = []  # what the owner should know before the first turn
        self.store = store = open_store(paths.database_file())
        self.models = models = ModelPool(config)
        self.workspace = config.workspace_path
        folder = self.workspace / "memory"
        memory = MemorySection(folder, config.memory.prompt_bytes)
        self.recall = Recall(config.memory, store, memory, folder)
        self.skills = library_of(config)
        skills = SkillsSection(self.skills, config.skills.prompt_bytes, config.skills.always_bytes)
        prompt = PromptBuilder(self.workspace, [skills, memory])
        self.hub = Hub(store)
        self.subagents = Subagents(config, store, self.hub, self.skills, prompt.owner_parts)
        spawn = SpawnTool(self.subagents, lambda: self.tools.registry())
        self.programs = BackgroundPrograms(paths.home() / "run" / "exec")
        own = build_tools(config, store, BUNDLED, functools.partial(read_record, store), self.programs)
        built_in = [*own, spawn, MemorySearchTool(self.recall)]
        taken = {*SWITCHABLE, *(tool.name for tool in built_in)}
        plugins = PluginTools(self.workspace / "tools", tool_context(config), taken)
        self.mcp = configured_servers(config)
        self.tools = Toolbox(built_in, [plugins, self.mcp] if self.mcp else [plugins])
        self.memory = MemoryMaintenance(config, store, models, lambda key: self.assistant.model_of(key))
        self.assistant = Assistant(
            config,
            store,
            models,
            self.tools,
            prompt,
            self.subagents,
            model=model,
            recall=self.recall.before_turn,
            summarise=self.memory.summarise,
        )
        self.dispatcher = Dispatcher(store, self.assistant, self.hub, self.subagents, config.agents.defaults)

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

            app.notices = await import_sessions(app.store, paths.home(), app.workspace)
        yield app
