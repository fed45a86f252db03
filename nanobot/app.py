"""The composition root: Config -> App. The one place that wires everything together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator

from nanobot import paths
from nanobot.agent.assistant import Assistant, ModelPool, Request
from nanobot.agent.context import PromptBuilder
from nanobot.agent.tools.base import TurnContext
from nanobot.agent.tools.toolbox import Toolbox
from nanobot.agent.window import read_record
from nanobot.bus.events import Notice, TurnEvent, TurnFinished, failed
from nanobot.config.schema import Config
from nanobot.errors import NanobotError
from nanobot.mcp import configured_servers
from nanobot.memory.prompt import MemorySection
from nanobot.memory.recall import Recall
from nanobot.memory.upkeep import MemoryUpkeep
from nanobot.messages import InboundMessage, Usage
from nanobot.plugins.folder import PluginTools
from nanobot.skills.library import BUNDLED, library_of
from nanobot.skills.prompt import SkillsSection
from nanobot.store.records import Claim, SessionKind
from nanobot.store.store import Store, open_store
from nanobot.store.workers import RENEW
from nanobot.subagents.orders import Subagents
from nanobot.subagents.spawn import SpawnTool
from nanobot.tools.built_in import SWITCHABLE, build_tools, tool_context
from nanobot.tools.memory_search import MemorySearchTool
from nanobot.workspace import create_workspace

_LANE_POLL = 0.25  # seconds between two looks at a lane that another process holds


class App:
    """nanobot, wired. Use `open_app`."""

    def __init__(self, config: Config, store: Store, models: ModelPool, *, model: str = "") -> None:
        self.config = config
        self.notices: list[str] = []  # what the owner should know before the first turn
        self.store = store
        self.models = models
        self.workspace = config.workspace_path
        folder = self.workspace / "memory"
        memory = MemorySection(folder, config.memory.prompt_bytes)
        self.recall = Recall(config.memory, store, memory, folder)
        self.skills = library_of(config)
        skills = SkillsSection(self.skills, config.skills.prompt_bytes, config.skills.always_bytes)
        prompt = PromptBuilder(self.workspace, [skills, memory])
        self.subagents = Subagents(config, store, self.skills, prompt.owner_parts)
        spawn = SpawnTool(self.subagents, lambda: self.tools.registry())
        own = build_tools(config, store, BUNDLED, functools.partial(read_record, store))
        built_in = [*own, spawn, MemorySearchTool(self.recall)]
        taken = {*SWITCHABLE, *(tool.name for tool in built_in)}
        plugins = PluginTools(self.workspace / "tools", tool_context(config), taken)
        self.mcp = configured_servers(config)
        self.tools = Toolbox(built_in, [plugins, self.mcp] if self.mcp else [plugins])
        self.memory = MemoryUpkeep(config, store, models, lambda key: self.assistant.model_of(key))
        self.assistant = Assistant(
            config,
            store,
            models,
            self.tools,
            prompt,
            model=model,
            recall=self.recall.before_turn,
            summarise=self.memory.summarise,
            subagents=self.subagents,
        )

    async def run(
        self, text: str, *, session_key: str, about: InboundMessage | None = None
    ) -> AsyncGenerator[TurnEvent, None]:
        """Run a terminal's turn. Cancel the iterating task to stop it; the last event is TurnFinished.

        `about` is the message when nobody has written it: a subagent's order or report.
        """
        if self.mcp:
            async for note in self.mcp.settle():
                yield Notice(note)
        channel, _, chat_id = session_key.partition(":")
        about = about or InboundMessage(channel, chat_id, "owner", text, "", session_key)
        kind: SessionKind = "subagent" if about.source == "order" else "chat"
        claim = await self.store.turns.begin(session_key, about.family, kind)
        if claim is None:
            yield Notice("Waiting: another turn of this session is running.")
        while claim is None:
            await asyncio.sleep(_LANE_POLL)
            claim = await self.store.turns.begin(session_key, about.family, kind)
        context = TurnContext(
            claim.turn_key,
            session_key,
            number=claim.turn_id,
            channel=channel,
            chat_id=chat_id,
            metadata=about.metadata,
            source=about.source,
            trust=about.trust,
            reply_to=about.reply_to,
            deliver=about.deliver,
            family=about.family,
        )
        renewing = asyncio.create_task(self._renew())
        try:
            async with contextlib.aclosing(self._run_claimed(claim, Request(context, text))) as events:
                async for event in events:
                    yield event
        finally:
            renewing.cancel()

    async def _run_claimed(self, claim: Claim, request: Request) -> AsyncGenerator[TurnEvent, None]:
        """The events of a claimed turn; acknowledged before its last event is shown."""
        finished = TurnFinished("cancelled", "", Usage())
        try:
            async with contextlib.aclosing(self.assistant.run(claim, request)) as events:
                async for event in events:
                    if isinstance(event, TurnFinished):
                        finished = event
                    else:
                        yield event
        except NanobotError as error:
            finished = failed(error)
        finally:
            try:
                await self.store.turns.finish(
                    claim,
                    finished.stop_reason,
                    finished.error,
                    said=finished.said,
                    used=finished.context,
                    tokens=finished.usage.total,
                )
            except NanobotError as error:
                finished = finished if finished.error else failed(error)
        yield finished

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            self.store.workers.renew()

    async def aclose(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for part in (self.store, self.models, self.recall, self.tools):  # the last one first
                stack.push_async_callback(part.aclose)


@contextlib.asynccontextmanager
async def open_app(config: Config, *, model: str = "") -> AsyncIterator[App]:
    """Everything `nanobot agent` needs: workspace, store, model, tools. Raises NanobotError."""
    create_workspace(config.workspace_path)
    store = open_store(paths.database_file())
    async with contextlib.aclosing(App(config, store, ModelPool(config), model=model)) as app:
        if any((folder / "sessions").is_dir() for folder in (app.workspace, paths.home())):
            from nanobot.legacy.sessions_file import import_sessions

            app.notices = await import_sessions(store, paths.home(), app.workspace)
        yield app
