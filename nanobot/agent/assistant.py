"""The assistant: a model, its tools and its prompt, ready to run turns of any session."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from nanobot.agent.context import PromptBuilder, history_budget, history_start, runtime_note
from nanobot.agent.loop import Turn, TurnLimits, run_turn
from nanobot.agent.tools.base import TurnContext
from nanobot.agent.tools.registry import ToolRegistry
from nanobot.bus.events import TurnEvent
from nanobot.config.schema import Config
from nanobot.messages import ContextPart, ImagePart, Message, TextPart
from nanobot.providers.base import ModelTraits, Provider
from nanobot.providers.registry import ProviderSpec
from nanobot.providers.resolve import Resolution, open_provider, resolve
from nanobot.session.store import Claim, Store

_SPARE_MESSAGES = 100  # read beyond the window, so that one long unfinished turn is seen whole


@dataclass(frozen=True)
class Request:
    """What a turn is asked to do. `text` None resumes a turn from what was recorded of it."""

    context: TurnContext
    text: str | None
    images: tuple[ImagePart, ...] = ()
    note: str = ""
    steer: Callable[[], Awaitable[Sequence[Message]]] | None = None
    handed_over: Callable[[], bool] = lambda: False


class ModelPool:
    """Resolves model names and keeps one open provider for each."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._open: dict[str, tuple[Resolution, Provider]] = {}

    async def get(self, model: str) -> tuple[Resolution, Provider]:
        """Raises ProviderError when nothing can serve `model`."""
        if model not in self._open:
            resolution = await resolve(self._config, model)
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
        tools: Callable[[], Awaitable[ToolRegistry]],
        prompt: PromptBuilder,
        *,
        model: str = "",
        clock: Callable[[], datetime],
        recall: Callable[[str, TurnContext], Awaitable[str]] | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._models = models
        self._tools = tools
        self._prompt = prompt
        self._clock = clock
        self._recall = recall
        self.default_model = model or config.agents.defaults.model
        self._insisted = model  # named when the process was started: it beats what sessions remember

    async def model_of(self, session_key: str) -> str:
        """The model that was named at the start, else the one chosen with /model, else the default."""
        return self._insisted or (await self._store.settings(session_key)).get("model") or self.default_model

    async def use_model(self, session_key: str, model: str) -> None:
        """Answer the session with `model` from now on."""
        await self._store.set_setting(session_key, "model", model)
        self._insisted = ""

    async def run(self, claim: Claim, request: Request) -> AsyncGenerator[TurnEvent, None]:
        """Run a claimed turn. The caller acknowledges it with `store.finish_turn`."""
        journal = _Journal(self._store, claim)
        if request.text is not None:
            await journal.append(await self._user_message(request, request.text))
        resolution, provider = await self._models.get(await self.model_of(claim.session_key))
        traits = provider.traits(resolution.model)
        tools = await self._tools() if traits.supports_tools else ToolRegistry([])
        system = self._prompt.system_prompt(request.context, with_tools=traits.supports_tools)
        fixed = len(system) + sum(len(str(definition)) for definition in tools.definitions())
        history = await self._history(claim, traits, fixed)
        turn = Turn(
            context=replace(request.context, supports_images=traits.supports_images),
            provider=provider,
            model=resolution.model,
            system=system,
            messages=history,
            tools=tools,
            journal=journal,
            limits=self._limits(),
            intended=await self._store.intents(claim) if request.text is None else frozenset(),
            handed_over=request.handed_over,
        )
        turn = replace(turn, steer=request.steer) if request.steer else turn
        async with contextlib.aclosing(run_turn(turn)) as events:
            async for event in events:
                yield event

    async def _user_message(self, request: Request, text: str) -> Message:
        note = runtime_note(self._clock(), request.context).text + request.note
        if self._recall is not None:
            note += await self._recall(text, request.context)
        return Message("user", (ContextPart(note), TextPart(text), *request.images))

    async def _history(self, claim: Claim, traits: ModelTraits, fixed: int) -> list[Message]:
        """The part of the session that fits, cut once and for many turns when it grew too long."""
        defaults = self._config.agents.defaults
        stored = await self._store.context(claim.session_key, defaults.memory_window + _SPARE_MESSAGES)
        window = defaults.context_window or traits.context_window
        budget = history_budget(window, defaults.max_tokens, fixed)
        earlier = [entry for entry in stored if entry.turn_id != claim.turn_id]
        start = history_start(earlier, defaults.memory_window, budget)
        if start:
            await self._store.move_start(claim.session_key, start)
        kept = [entry.message for entry in stored if entry.seq > start]
        return kept if traits.supports_tools else [_words_only(message) for message in kept]

    def _limits(self) -> TurnLimits:
        defaults = self._config.agents.defaults
        return TurnLimits(
            max_iterations=defaults.max_tool_iterations,
            max_tokens=defaults.max_tokens,
            temperature=defaults.temperature,
            seconds=defaults.turn_timeout_seconds,
        )


def _words_only(message: Message) -> Message:
    """A small chat model is confused by notes about clock and channel."""
    return replace(message, parts=tuple(part for part in message.parts if isinstance(part, TextPart)))


class _Journal:
    """Records a turn under its claim."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store = store
        self._claim = claim

    async def append(self, message: Message) -> None:
        await self._store.append(self._claim, message)

    async def intend(self, call_id: str) -> None:
        await self._store.record_intent(self._claim, call_id)
