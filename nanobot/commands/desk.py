"""What slash commands may do, and for whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from nanobot.app import App
from nanobot.session.store import SessionInfo


class SessionDesk:
    """What slash commands may do. `stop` ends the running turn; `only` limits the view to one session."""

    def __init__(
        self, app: App, stop: Callable[[str], Awaitable[bool]] | None = None, *, only: str = ""
    ) -> None:
        self._app = app
        self._stop = stop
        self._only = only
        self.store = app.store
        self.workspace = app.workspace
        self.queue_mode: str = app.config.agents.defaults.queue_mode

    async def model_in_use(self, session_key: str) -> str:
        resolution, _ = await self._app.models.get(await self._app.assistant.model_of(session_key))
        return f"{resolution.model} ({resolution.provider_name})"

    async def use_model(self, session_key: str, model: str) -> None:
        await self._app.models.get(model)
        await self._app.assistant.use_model(session_key, model)

    async def list_sessions(self, limit: int) -> list[SessionInfo]:
        """The newest sessions; a chat sees its own only."""
        if not self._only:
            return await self.store.sessions(limit)
        own = await self.store.session(self._only)
        return [own] if own else []

    async def stop(self, session_key: str) -> bool:
        return self._stop is not None and await self._stop(session_key)
