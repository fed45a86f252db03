"""The assistant: a model, its tools and its prompt, ready to run turns of any session."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from nanobot.agent.context import PromptBuilder
from nanobot.agent.loop import Turn
from nanobot.agent.tools.registry import Toolbox
from nanobot.agent.window import SPARE_MESSAGES, Conversation, Limits, Summarise
from nanobot.bus.events import TurnEvent, TurnFinished
from nanobot.config.schema import Config
from nanobot.errors import NanobotError
from nanobot.messages import ContextPart, InboundMessage, Message, Part, TextPart, TurnContext
from nanobot.providers.base import Provider
from nanobot.providers.registry import ProviderSpec
from nanobot.providers.resolve import Resolution, open_provider, resolve
from nanobot.security.policy import Policy
from nanobot.store.records import Claim, OpenSession
from nanobot.store.store import Store
from nanobot.subagents import LazySubagents


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


@dataclass
class Assistant:
    """Prepares turns and runs them. `named` is a model that beats what sessions remember.

    When `handed_over` is set, turns that are stopped do not end: another worker goes on with them.
    """

    config: Config
    store: Store
    models: ModelPool
    tools: Toolbox
    prompt: PromptBuilder
    subagents: LazySubagents
    named: str = ""
    recall: Callable[[InboundMessage, int], Awaitable[str]] | None = None
    summarise: Summarise | None = None

    def __post_init__(self) -> None:
        self.policy = Policy(self.config.tools.policy)
        self.handed_over = asyncio.Event()
        self.default_model = self.named or self.config.agents.defaults.model

    async def model_of(self, session_key: str) -> str:
        """The model that was named at the start, else the one chosen with /model, else the default."""
        return self._chosen((await self.store.sessions.open(session_key)).settings)

    def _chosen(self, settings: Mapping[str, str]) -> str:
        return self.named or settings.get("model") or self.default_model

    async def use_model(self, session_key: str, model: str) -> None:
        """Answer the session with `model` from now on."""
        await self.store.sessions.set_setting(session_key, "model", model)
        self.named = ""

    async def run(
        self, claim: Claim, inbound: InboundMessage, emit: Callable[[TurnEvent], None]
    ) -> TurnFinished:
        """Answer a message, whose files are on disk, or go on with what was recorded of its turn.

        The caller closes the turn with `store.turns.finish`.
        """
        session = await self._open(inbound.session_key)
        begun = bool(session.messages) and session.messages[-1].turn_id == claim.turn_id
        try:
            turn = await self._prepare(inbound, claim, session)
        except NanobotError:
            if not begun:  # what was asked is kept, also when nobody can answer it
                await self.store.turns.append(claim, await self._asked(inbound))
            raise
        if not begun:
            recalled = await self.recall(inbound, session.window.start) if self.recall else ""
            shown = turn.conversation.shown() if inbound.folder else ()
            await turn.conversation.append(await self._asked(inbound, recalled, shown))
            if inbound.source == "report":
                await turn.conversation.take_waiting(inbound)  # others that came in meanwhile
        return await turn.run(emit)

    async def prepare(self, inbound: InboundMessage) -> Turn:
        """The turn that would answer `inbound` now. Raises NanobotError."""
        nothing = Claim(0, inbound.session_key, 0, "")  # so that nothing can be stored
        return await self._prepare(inbound, nothing, await self._open(inbound.session_key))

    async def _open(self, session_key: str) -> OpenSession:
        limit = self.config.agents.defaults.memory_window + SPARE_MESSAGES
        return await self.store.sessions.open(session_key, limit)

    async def _prepare(self, inbound: InboundMessage, claim: Claim, session: OpenSession) -> Turn:
        context = TurnContext(claim.turn_key, claim.turn_id, inbound)
        defaults = self.config.agents.defaults
        model, tools, system = self._chosen(session.settings), self.tools, list[tuple[str, str]]()
        calls, advice = defaults.max_tool_iterations, Turn.advice
        seconds: float = defaults.turn_timeout_seconds
        if inbound.source == "order":
            await tools.refresh()
            role = await self.subagents.loaded.role(context, tools.for_subagents, seconds)
            parent = inbound.reply_to.session_key if inbound.reply_to else inbound.session_key
            model = role.model or await self.model_of(parent)
            tools, system = Toolbox([tools.get(name) for name in role.tools]), [("rules", role.prompt)]
            calls, advice, seconds = role.calls, role.advice, role.seconds
        resolution, provider = await self.models.get(model)
        traits = provider.traits(resolution.model)
        if not traits.supports_tools:
            tools = Toolbox([])
        system = system or self.prompt.parts(inbound, with_tools=traits.supports_tools)
        await tools.refresh()
        limits = Limits(
            window=defaults.context_window or traits.context_window,
            answer=defaults.max_tokens,
            fixed=sum(len(text.encode()) for _, text in system) + tools.size,
            messages=defaults.memory_window,
            only_words=not traits.supports_tools,
        )
        mode = session.settings.get("queue", defaults.queue_mode)
        return Turn(
            context=context._replace(supports_images=traits.supports_images),
            provider=provider,
            model=resolution.model,
            system=system,
            tools=tools,
            conversation=Conversation(self.store, claim, limits, self.summarise, session),
            handed_over=self.handed_over,
            max_iterations=calls,
            advice=advice,
            max_tokens=defaults.max_tokens,
            temperature=defaults.temperature,
            seconds=seconds,
            objection=functools.partial(self.subagents.objection, claim, context, calls),
            answers=inbound if inbound.source == "report" or mode == "steer" else None,
            policy=self.policy,
        )

    async def _asked(
        self, inbound: InboundMessage, recalled: str = "", shown: Sequence[Message] = ()
    ) -> Message:
        """What the model is shown of a message, after what it is `shown` already."""
        note = self.prompt.moment(inbound, shown)
        more: list[Part] = []
        if inbound.is_group or inbound.attachments or inbound.quoted:
            from nanobot.agent.attachments import attachment_notes, load_images, quoted_parts

            note += attachment_notes(inbound)
            more += quoted_parts(inbound)
            more += await asyncio.to_thread(load_images, inbound.attachments)
        about = ContextPart(note + recalled, recalled=bool(recalled))
        return Message("user", (about, TextPart(inbound.text), *more))
