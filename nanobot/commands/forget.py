"""`/forget`: shows what would be gone, and forgets it when that is confirmed."""

from __future__ import annotations

import json
import time

from nanobot.channels.registry import allow_from
from nanobot.config.schema import Config
from nanobot.errors import UsageError
from nanobot.memory.forget import ForgetScope, Forgetter
from nanobot.store.store import Store

_CONFIRM_WITHIN = 600.0  # seconds
_SHOWN = 12  # of the things that would be gone
_PENDING = "forget"  # the session's setting in which a request waits for its confirmation


async def forget_in_chat(
    wanted: str, session_key: str, forgetter: Forgetter, store: Store, scope: ForgetScope
) -> str:
    """The answer to `/forget TEXT`, and to `/forget yes` after it. Raises UsageError, StorageError."""
    waiting = (await store.sessions.open(session_key)).settings.get(_PENDING, "")
    if wanted.strip().lower() != "yes":
        found = await forgetter.find(wanted, scope)
        request = json.dumps({"wanted": wanted, "at": time.time()})
        await store.sessions.set_setting(session_key, _PENDING, request)
        return "\n".join([*_preview(list(found.lines())), "To forget it for good: /forget yes"])
    if not waiting:
        raise UsageError("There is nothing to confirm. /forget TEXT shows what would be forgotten.")
    await store.sessions.set_setting(session_key, _PENDING, "")
    asked = json.loads(waiting)
    if not 0 <= time.time() - asked["at"] <= _CONFIRM_WITHIN:
        raise UsageError("That was asked too long ago. Ask again with /forget TEXT.")
    count = await forgetter.forget(await forgetter.find(asked["wanted"], scope))
    elsewhere = "" if not scope.session else " What this chat app itself keeps must be deleted there."
    return f"Forgotten; {count} messages lost their words.{elsewhere}"


def _preview(lines: list[str]) -> list[str]:
    if not lines:
        return ["No fact, summary or message of this chat says that; it may still be in backups and queues."]
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return ["This would be forgotten:", *(line[:160] for line in lines[:_SHOWN]), *more]


def chat_scope(config: Config, session_key: str, *, is_group: bool) -> ForgetScope:
    """What a chat may forget: its own, and the owner's memory if only people named in allowFrom get in."""
    channel = session_key.partition(":")[0]
    section = config.channels.enabled().get(channel)
    allowed = allow_from(channel, section) if section is not None else []
    return ForgetScope(session_key, is_group, owner=not is_group and bool(allowed) and "*" not in allowed)
