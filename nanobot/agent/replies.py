"""What a chat is told of a turn's end."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nanobot.bus.events import TurnFinished
from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.store.records import InboxTurn

log = logging.getLogger(__name__)

HEARTBEAT_OK = "HEARTBEAT_OK"


def replies(turn: InboxTurn, finished: TurnFinished, notices: Sequence[str]) -> list[OutboundMessage]:
    """The messages that go out with the end of a turn; none when it has nothing to say, or no chat."""
    text, inbound = _reply_text(finished, notices), turn.inbound
    if not text or _is_silent(inbound, finished):
        return []
    reply_id = f"turn-{turn.claim.turn_key}"
    return [OutboundMessage(reply_id, inbound.channel, inbound.chat_id, text, metadata=inbound.metadata)]


def _is_silent(inbound: InboundMessage, finished: TurnFinished) -> bool:
    """Whether the chat gets no reply, as nothing is to be said."""
    if inbound.channel == "cli":  # a job that was set up in a terminal
        level = logging.ERROR if finished.error else logging.INFO
        log.log(level, "%s: %s", inbound.session_key, finished.error or finished.text)
        return True
    if finished.stop_reason in ("error", "limit"):
        return False
    if not inbound.deliver:
        return True
    return inbound.source in ("heartbeat", "report") and is_heartbeat_ok(finished.text)


def is_heartbeat_ok(text: str) -> bool:
    """Whether a heartbeat found nothing to report, however it is decorated."""
    return text.strip(" \t\r\n*_`.~") == HEARTBEAT_OK


def _reply_text(finished: TurnFinished, notices: Sequence[str]) -> str:
    """What the chat is told: the answer, and in words why there is none or not all of it."""
    if finished.stop_reason == "error":
        return f"⚠️ {finished.error}"
    if finished.stop_reason == "cancelled":
        return ""  # /stop answers for itself
    if finished.stop_reason == "limit":
        return "\n\n".join(part for part in (finished.text, f"⚠️ {notices[-1]}" if notices else "") if part)
    return finished.text
