"""Talking to nanobot as its front ends do: submit a message, and look at what comes of it."""

from __future__ import annotations

import itertools
from typing import Any

from nanobot.app import App
from nanobot.bus.events import Event, TurnFinished
from nanobot.messages import InboundMessage, Source, TurnContext
from nanobot.store.records import Claim, InboxTurn
from nanobot.store.store import Store

_numbers = itertools.count(1)


def turn_in(key: str, *, number: int = 1, images: bool = False, **more: Any) -> TurnContext:
    """The context of a turn that answers somebody in the session `key`."""
    return TurnContext(str(number), number, message_in(key, **more), images)


def message_in(key: str, **more: Any) -> InboundMessage:
    """What somebody has written in the session `key`."""
    channel, _, chat_id = key.partition(":")
    return InboundMessage(channel, chat_id, "owner", "hi", "1", key, **more)


def own_message(
    store: Store, key: str, text: str = "hi", *, source: Source = "person", family: int | None = None
) -> InboundMessage:
    """What this process submits for itself in the session `key`."""
    channel, _, chat_id = key.partition(":")
    return InboundMessage(
        *(channel, chat_id, "owner", text, f"own-{store.workers.owner}-{next(_numbers)}", key),
        source=source,
        family=family,
        owner=store.workers.owner,
    )


async def claim_own(
    store: Store, key: str, *, source: Source = "person", family: int | None = None
) -> Claim | None:
    """Submit a message and claim its turn; None while another turn of the session runs."""
    await store.inbox.accept(own_message(store, key, source=source, family=family))
    claimed = await store.turns.claim(store.workers.owner)
    return next((turn.claim for turn in claimed if turn.claim.session_key == key), None)


async def claim_next(store: Store, *, chats: bool = True, subagents: bool = True) -> InboxTurn | None:
    """One turn that belongs to no process, of a chat if there is one."""
    claimed = await store.turns.claim("", int(chats), 0)
    if not claimed and subagents:
        claimed = await store.turns.claim("", 0, 1)
    return claimed[0] if claimed else None


async def talk(app: App, text: str, key: str = "cli:direct") -> list[Event]:
    """The events of one turn in a process that does nothing else."""
    seen: list[Event] = []
    with app.hub.subscribe(key) as events:
        await app.hub.submit(own_message(app.store, key, text))
        async with app.working_for_itself():
            async for _, event in events:
                seen.append(event)
                if isinstance(event, TurnFinished):
                    break
    return seen
