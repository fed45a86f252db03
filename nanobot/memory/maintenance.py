"""What is done to memory beside the turns: consolidating and forgetting, loaded when it is needed."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from nanobot.agent.assistant import ModelPool
from nanobot.bus.hub import Hub, wait_for
from nanobot.config.schema import Config
from nanobot.errors import NanobotError
from nanobot.memory.consolidation_table import ConsolidationTable
from nanobot.providers.base import Provider
from nanobot.store.records import StoredMessage
from nanobot.store.store import Store

if TYPE_CHECKING:
    from nanobot.memory.consolidation import Consolidator
    from nanobot.memory.forget import Forgetter

log = logging.getLogger(__name__)

_LOOK_EVERY = 30.0  # seconds after which the gateway looks for work though nothing was stored
_PAUSE = 1.0  # seconds between two looks, however much is stored


class MemoryMaintenance:
    """`model_of` gives the model of a session."""

    def __init__(
        self, config: Config, store: Store, models: ModelPool, model_of: Callable[[str], Awaitable[str]]
    ) -> None:
        self._config = config
        self._store = store
        self._models = models
        self._model_of = model_of
        self._table = ConsolidationTable(store.database)

    @functools.cached_property
    def consolidator(self) -> Consolidator:
        """Turns what was said into facts and summaries."""
        from nanobot.memory.consolidation import Consolidator
        from nanobot.memory.files import open_files

        defaults, timeout = self._config.agents.defaults, self._config.memory.timeout_seconds
        return Consolidator(
            *(self._store, open_files(self._config.workspace_path), self._open_model),
            *(defaults.memory_window, timeout, defaults.max_tokens),
        )

    async def _open_model(self, session_key: str) -> tuple[str, Provider]:
        name = self._config.memory.model or await self._model_of(session_key)
        resolution, provider = await self._models.get(name)
        return resolution.model, provider

    @functools.cached_property
    def forgetter(self) -> Forgetter:
        """Takes things out of memory for good."""
        from nanobot.memory.forget import Forgetter

        return Forgetter(self.consolidator)

    async def summarise(self, session_key: str, messages: Sequence[StoredMessage]) -> str:
        """What people said in these messages, as far as it is consolidated. Raises StorageError.
        A chat waits for this, so no model is asked; the rest is owed from now on."""
        changes = await self._table.changes_of(session_key, messages[0].seq, messages[-1].seq)
        if not changes:
            return ""
        from nanobot.memory.facts import parse_history
        from nanobot.memory.operations import Plan

        lines = "\n".join(line for change in changes for line in Plan.from_json(change["body"]).history[:1])
        return "\n".join(f"[{entry.origin.day}] {entry.text}" for entry in parse_history(lines))

    async def serve(self, hub: Hub) -> None:
        """Work in the background until cancelled, whenever something was stored or a retry is due."""
        with hub.changes() as changed:
            while True:
                await wait_for(changed, _LOOK_EVERY)
                pause = _LOOK_EVERY
                try:
                    if await self._is_due():
                        await self.run_owed()
                    pause = _PAUSE
                except NanobotError as error:
                    log.error("Memory is not consolidated: %s", error)
                except Exception:  # chats go on without it
                    log.exception("Memory is not consolidated")
                await asyncio.sleep(pause)

    async def is_left_to_us(self) -> bool:
        """Whether there is something to do and no gateway that does it."""
        return await self._is_due() and not await self._store.workers.leader()

    async def _is_due(self) -> bool:
        """Whether there is anything to do; most often there is not, and nothing is loaded for it."""
        return await self._table.is_due(self._config.agents.defaults.memory_window)

    async def run_owed(
        self, *, most: int = 1_000_000, seconds: float = math.inf, retry_now: bool = False
    ) -> None:
        """Finish what is being forgotten, and consolidate what is owed in at most `most` attempts,
        each of at most `seconds`. Raises NanobotError."""
        await self.forgetter.finish()
        timeout = min(seconds, self.consolidator.timeout)
        consolidator = dataclasses.replace(self.consolidator, timeout=timeout)
        await consolidator.run_owed(most=most, retry_now=retry_now)

    async def remember(self, *, most: int = 1_000_000, seconds: float = math.inf) -> None:
        """Do so as well, unless there is a gateway that does, and let the owner have no error of it."""
        try:
            if await self.is_left_to_us():
                await self.run_owed(most=most, seconds=seconds)
        except NanobotError as error:  # stays owed; `nanobot status` shows it
            log.warning("Memory is not consolidated: %s", error)
