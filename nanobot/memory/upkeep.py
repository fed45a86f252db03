"""What is done to memory beside the turns: consolidating and forgetting, opened by whoever needs it."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from nanobot.agent.assistant import ModelPool
from nanobot.config.schema import Config
from nanobot.errors import StorageError
from nanobot.store.memory_log import MemoryLog
from nanobot.store.records import StoredMessage
from nanobot.store.store import Store

if TYPE_CHECKING:
    from nanobot.memory.consolidation import Consolidator
    from nanobot.memory.forget import Forgetter


class MemoryUpkeep:
    """`model_of` gives the model of a session."""

    def __init__(
        self,
        config: Config,
        store: Store,
        models: ModelPool,
        model_of: Callable[[str], Awaitable[str]],
    ) -> None:
        self._config = config
        self._store = store
        self._models = models
        self._model_of = model_of

    @functools.cached_property
    def consolidator(self) -> Consolidator:
        """Turns what was said into facts and summaries."""
        from nanobot.memory.consolidation import open_consolidator

        return open_consolidator(self._config, self._store, self._models, self._model_of)

    @functools.cached_property
    def forgetter(self) -> Forgetter:
        """Takes things out of memory for good."""
        from nanobot.memory.forget import Forgetter
        from nanobot.memory.search import MemorySearch

        workspace = self._config.workspace_path
        return Forgetter(
            self.consolidator, workspace, lambda: MemorySearch(self._store, workspace / "memory")
        )

    async def summarise(self, session_key: str, messages: Sequence[StoredMessage]) -> str:
        """What stands for these messages in later prompts, as far as they are in memory."""
        return await self.consolidator.summarise(session_key, messages)

    async def remember(self, *, most: int = 1_000_000, seconds: float = math.inf) -> None:
        """Consolidate what is owed, in at most `most` attempts of `seconds`, unless a gateway does that."""
        with contextlib.suppress(StorageError):  # then the turn has said so
            log = MemoryLog(self._store.database)
            waiting = await log.unconsolidated(self._config.agents.defaults.memory_window)
            due = any(session.retry_at <= time.time() for session in waiting)
            if due or await log.pending_changes():
                await self.consolidator.run_beside_gateway(most, seconds)
