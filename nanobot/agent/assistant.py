"""The assistant: a model, its tools and its prompt, ready to run turns of any session."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from nanobot.agent.context import PromptBuilder
from nanobot.agent.loop import Turn, TurnLimits, run_turn
from nanobot.agent.subagent import Role, SubagentRules
from nanobot.agent.tools.base import TurnContext
from nanobot.agent.tools.toolbox import Toolbox
from nanobot.agent.window import SPARE_MESSAGES, Conversation, Limits, Summarise
from nanobot.bus.events import TurnEvent
from nanobot.config.schema import Config
from nanobot.errors import NanobotError
from nanobot.messages import ContextPart, ImagePart, Message, TextPart
from nanobot.providers.base import Provider
from nanobot.providers.registry import ProviderSpec
from nanobot.providers.resolve import Resolution, open_provider, resolve
from nanobot.store.records import Claim, StoredMessage
from nanobot.store.store import Store


@dataclass(frozen=True)
class Request:
    """What a turn is asked to do. `text` None resumes a turn from what was recorded of it."""

    context: TurnContext
    text: str | None
    images: tuple[ImagePart, ...] = ()
    note: str = ""
    steer: Callable[[], Awaitable[Sequence[StoredMessage]]] | None = None
    handed_over: asyncio.Event = field(default_factory=asyncio.Event)


class ModelPool:
    """Resolves model names and keeps one open provider for each."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._open: dict[str, tuple[Resolution, Provider]] = {}

    async def get(self, model: str) -> tuple[Resolution, Provider]:
        """Raises ProviderError when nothing can serve `model`."""
        if model not in self._open:
            resolution = await resolve(self._config, model)
            if model not in self._open:  # nobody else was faster
                self._open[model] = (resolution, open_provider(resolution, self._config))
        return self._open[model]

    def use(self, model: str, provider: Provider) -> None:
        """Serve `model` with an open provider from now on."""
        spec = ProviderSpec(name=provider.name, keywords=(), env_key="")
        self._open[model] = (Resolution(spec, model), provider)

    async def aclose(self) -> None:
        for _, provider in self._open.values():
            await provider.aclose()


class Assistant:
    """Runs turns: reads the context, calls `run_turn`, records every message in the store."""

    def __init__(
        self,
        config: Config,
        store: Store,
        models: ModelPool,
        tools: Toolbox,
        prompt: PromptBuilder,
        *,
        model: str = "",
        recall: Callable[[str, TurnContext], Awaitable[str]] | None = None,
        summarise: Summarise | None = None,
        subagents: SubagentRules | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._models = models
        self._tools = tools
        self._prompt = prompt
        self._summarise = summarise
        self._recall = recall
        self.subagents = subagents
        self.default_model = model or config.agents.defaults.model
        self._insisted = model  # named when the process was started: it beats what sessions remember

    async def model_of(self, session_key: str) -> str:
        """The model that was named at the start, else the one chosen with /model, else the default."""
        return self._chosen(await self._store.sessions.settings(session_key))

    def _chosen(self, settings: Mapping[str, str]) -> str:
        return self._insisted or settings.get("model") or self.default_model

    async def use_model(self, session_key: str, model: str) -> None:
        """Answer the session with `model` from now on."""
        await self._store.sessions.set_setting(session_key, "model", model)
        self._insisted = ""

    async def run(self, claim: Claim, request: Request) -> AsyncGenerator[TurnEvent, None]:
        """Run a claimed turn. The caller closes it with `store.turns.finish`."""
        try:
            turn = await self.prepare(request.context, claim)
        except NanobotError:
            if request.text is not None:  # what was asked is kept, also when nobody can answer it
                await self._store.turns.append(claim, self._asked(request, request.text, ""))
            raise
        if request.text is not None:
            recalled = await self._recall(request.text, request.context) if self._recall else ""
            await turn.conversation.append(self._asked(request, request.text, recalled))
            if request.context.source == "report" and request.steer:
                turn.conversation.entries += await request.steer()  # others that came in meanwhile
        turn = replace(turn, handed_over=request.handed_over, steer=request.steer)
        if self.subagents is not None:
            own = turn.limits.max_iterations
            objection = functools.partial(self.subagents.objection, claim, request.context, own)
            turn = replace(turn, objection=objection)
        async with contextlib.aclosing(run_turn(turn)) as events:
            async for event in events:
                yield event

    async def prepare(self, context: TurnContext, claim: Claim | None = None) -> Turn:
        """A turn of the session in `context` as it would begin now. Raises NanobotError."""
        defaults = self._config.agents.defaults
        opened = await self._store.sessions.open(context.session_key, defaults.memory_window + SPARE_MESSAGES)
        role = await self._role(context, opened.settings)
        resolution, provider = await self._models.get(role.model)
        traits = provider.traits(resolution.model)
        tools = self._tools if role.tools is None else Toolbox(role.tools)
        if not traits.supports_tools:
            tools = Toolbox([])
        own = [("rules", role.prompt)] if role.prompt else []
        system = own or self._prompt.parts(context, with_tools=traits.supports_tools)
        definitions = (await tools.registry()).definitions()
        limits = Limits(
            window=defaults.context_window or traits.context_window,
            answer=defaults.max_tokens,
            fixed=sum(len(text.encode()) for _, text in system) + len(str(definitions)),
            messages=defaults.memory_window,
            only_words=not traits.supports_tools,
        )
        return Turn(
            context=replace(context, supports_images=traits.supports_images),
            provider=provider,
            model=resolution.model,
            system=system,
            tools=tools,
            conversation=Conversation(
                self._store, context.session_key, claim, limits, self._summarise, opened
            ),
            limits=role.limits,
        )

    async def _role(self, context: TurnContext, settings: Mapping[str, str]) -> Role:
        """What the turn works with. Raises UsageError when its subagent's profile cannot be used."""
        if self.subagents is None or context.source != "order":
            return Role(self._chosen(settings), self._limits())
        role = await self.subagents.role(context, await self._tools.registry(), self._limits())
        parent = context.reply_to.session_key if context.reply_to else context.session_key
        return replace(role, model=role.model or await self.model_of(parent))

    def _asked(self, request: Request, text: str, recalled: str) -> Message:
        note = self._prompt.moment(request.context) + request.note + recalled
        return Message("user", (ContextPart(note), TextPart(text), *request.images))

    def _limits(self) -> TurnLimits:
        defaults = self._config.agents.defaults
        return TurnLimits(
            max_iterations=defaults.max_tool_iterations,
            max_tokens=defaults.max_tokens,
            temperature=defaults.temperature,
            seconds=defaults.turn_timeout_seconds,
        )
