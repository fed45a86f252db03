"""What slash commands may do, and for whom."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass

from nanobot.agent.loop import Turn
from nanobot.app import App
from nanobot.bus.events import SubagentChanged
from nanobot.errors import ProviderError, SetUpAsked, UsageError
from nanobot.messages import InboundMessage
from nanobot.store.records import SessionInfo, SubagentInfo

_PATIENCE = 8.0  # seconds for the list of a provider's models


@dataclass(frozen=True, slots=True)
class Request:
    """One use of a command: what was typed behind its name, and where."""

    arguments: str
    session_key: str
    context: CommandContext

    @property
    def number(self) -> int:
        """The arguments as a number, 0 when they are none."""
        return int(self.arguments) if self.arguments.isdecimal() and len(self.arguments) < 10 else 0

    def columns(self, text: str) -> str:
        """Aligned lines as they stay aligned: a chat has proportional letters, but not in a code block."""
        return "```\n{}\n```".format(text.replace("`", "'")) if self.context.is_chat else text


class CommandContext:
    """What slash commands may do. `switch` goes on in another session, `notify` is told what takes time.

    `only` limits the view to one session. `keys` is what /help says of the keyboard.
    """

    def __init__(
        self,
        app: App,
        switch: Callable[[str], None] | None = None,
        notify: Callable[[str], None] = lambda _: None,
        *,
        only: str = "",
        keys: str = "",
    ) -> None:
        self._app = app
        self.keys = keys
        self.skills = app.skills
        self._listed: dict[str, list[str]] = {}  # models, by provider
        self._switch = switch
        self.notify = notify
        self._only = only
        self.is_chat = bool(only)
        self.store = app.store
        self.workspace = app.workspace
        self.policy = app.assistant.policy
        self.queue_mode: str = app.config.agents.defaults.queue_mode

    async def model_in_use(self, session_key: str) -> str:
        resolution, _ = await self._app.models.get(await self._app.assistant.model_of(session_key))
        return f"{resolution.model} ({resolution.spec.title})"

    async def use_model(self, session_key: str, model: str) -> None:
        """Answer the session with `model`, `default` being the configured one.

        Raises UsageError for one that its provider does not list, and for a script: it may call any tool.
        """
        if model.startswith("scripted/"):
            raise UsageError(
                "A script is named on the command line only: nanobot agent --model scripted/PATH."
            )
        chosen = "" if model.lower() == "default" else model
        resolution, _ = await self._app.models.get(chosen or self._app.assistant.default_model)
        listed = await self.models(session_key, chosen) if chosen else []
        if listed and not any(_is_named(resolution.model, name) for name in listed):
            near = ", ".join(difflib.get_close_matches(resolution.model, listed))
            advice = f"Nearest: {near}." if near else "/models lists those it has."
            raise UsageError(f"{resolution.spec.title} has no model {resolution.model[:80]}. {advice}")
        await self._app.assistant.use_model(session_key, chosen)

    async def models(self, session_key: str, model: str = "") -> list[str]:
        """What the provider of `model`, or of the session's, lists for chatting; asked once, briefly."""
        _, provider = await self._app.models.get(model or await self._app.assistant.model_of(session_key))
        if provider.name not in self._listed:
            from nanobot.providers.discovery import chat_models
            from nanobot.providers.transport import WireProvider

            self._listed[provider.name] = []
            if isinstance(provider, WireProvider):
                with contextlib.suppress(ProviderError, TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        self._listed[provider.name] = chat_models(await provider.models())
        return self._listed[provider.name]

    async def list_sessions(self, limit: int) -> list[SessionInfo]:
        """The newest conversations; a chat sees its own only."""
        return await self.store.conversations.newest(limit, self._only, subagents=False)

    async def find_session(self, wanted: str, limit: int) -> SessionInfo:
        """The conversation @ID, of that number in the list, key or title. Raises UsageError."""
        listed = await self.list_sessions(limit)
        if wanted.isdecimal() and 0 < int(wanted) <= len(listed):
            return listed[int(wanted) - 1]
        found = [info for info in listed if info.title.lower().startswith(wanted.lower())]
        if wanted[0] == "@" and wanted[1:].isdecimal():
            by_id = await self.store.conversations.get(int(wanted[1:]))
            found = [by_id] if by_id else []
        for key in (wanted, f"cli:{wanted}"):
            if of_key := await self.store.sessions.get(key):
                found = [of_key]
        visible = [info for info in found if self._only in ("", info.key)]
        if len(visible) > 1:
            several = ", ".join(f"@{info.id}" for info in visible)
            raise UsageError(f"Several conversations begin with {wanted[:60]!r}: {several}. Say which.")
        if not visible:
            raise UsageError(
                f"There is no conversation {wanted[:60]!r}. /sessions lists them with their numbers."
            )
        return visible[0]

    def connect(self, session_key: str) -> None:
        """Raises SetUpAsked in a terminal, where questions can be asked, and else UsageError."""
        if self._switch is None:
            raise UsageError("A model is set up in a terminal: `nanobot onboard`, or /connect there.")
        raise SetUpAsked(session_key)

    async def resume(self, session_key: str, found: SessionInfo) -> None:
        """Go on with a conversation, which may be of another session in a terminal. Raises UsageError."""
        if found.key != session_key:
            if self._switch is None:
                raise UsageError(f"That is for a terminal: nanobot agent -s @{found.id}")
            self._switch(found.key)
        await self.store.conversations.go_on(found.id)

    async def prepare(self, session_key: str) -> Turn:
        """What a turn of the session would be given. Raises ProviderError, StorageError."""
        channel, _, chat_id = session_key.partition(":")
        info = await self.store.sessions.get(session_key)
        is_group = info is not None and info.is_group
        inbound = InboundMessage(channel, chat_id, "", "", "", session_key, is_group=is_group)
        return await self._app.assistant.prepare(inbound)

    async def forget(self, session_key: str, wanted: str) -> str:
        """Forgetting: the terminal's is the owner's, a chat's own is its own."""
        from nanobot.commands.forget import chat_scope, forget_in_chat
        from nanobot.memory.forget import ForgetScope

        scope = ForgetScope()
        if self._only:
            session = await self.store.sessions.get(session_key)
            is_group = session is not None and session.is_group
            scope = chat_scope(self._app.config, session_key, is_group=is_group)
        return await forget_in_chat(wanted, session_key, self._app.memory.forgetter, self.store, scope)

    async def subagents(self, session_key: str) -> list[tuple[SubagentInfo, SubagentChanged | None]]:
        """The newest subagents of a session, and how those that run here go."""
        found = await self.store.subagents.of(session_key)
        return [(info, self._app.subagents.loaded.progress.get(info.id)) for info in found]

    async def stop_subagents(self, session_key: str, ids: Collection[str]) -> list[str]:
        """Stop these subagents; the ids of those that had not ended."""
        return await self._app.dispatcher.stop_subagents(session_key, ids)

    async def stop(self, session_key: str) -> str:
        """Stop what works in a session, or else end what it has left in the background; says what it did."""
        subagents = await self._app.dispatcher.stop_subagents(session_key, None)
        stopped = self._app.dispatcher.take_stopped(session_key) or bool(subagents)
        programs = self._app.programs.running(session_key)
        names = ", ".join(map(str, programs))
        if stopped:
            return f"Stopped. Still in the background: {names}; /stop ends it." if names else "Stopped."
        for program in programs:
            await program.stop()
        return f"Ended: {names}." if names else "Nothing is running."


def _is_named(wanted: str, listed: str) -> bool:
    """Whether a provider that lists `listed` knows `wanted`: also without its date, or with `:variant`."""
    rest = listed.removeprefix(wanted)
    return listed in (wanted, wanted.partition(":")[0]) or (rest != listed and rest[1:].isdecimal())
