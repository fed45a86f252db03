"""Subagents: profiles, the spawn tool, and the reports that come back. Imported when one is used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanobot.messages import TurnContext
    from nanobot.store.records import Claim
    from nanobot.subagents.orders import Subagents


class LazySubagents:
    """What nearly every turn needs of subagents: nothing. `spawned` are the turns that have spawned here."""

    def __init__(self, load: Callable[[], Subagents]) -> None:
        self.spawned: set[str] = set()
        self._load = load

    @functools.cached_property
    def loaded(self) -> Subagents:
        return self._load()

    async def objection(self, claim: Claim, turn: TurnContext, own: int) -> str:
        """Why a turn may not call the model once more, having `own` calls for itself; "" when it may.

        Turns that share no calls are not counted: that costs a write.
        """
        resumed = claim.epoch > 1  # it may have spawned before
        if turn.inbound.family is None and turn.turn_id not in self.spawned and not resumed:
            return ""
        return await self.loaded.objection(claim, turn, own)
