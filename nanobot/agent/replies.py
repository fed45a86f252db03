"""What a chat is told of a turn's end."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from nanobot.bus.events import TurnFinished
from nanobot.messages import OutboundMessage
from nanobot.store.records import InboxTurn

log = logging.getLogger(__name__)


def replies(turn: InboxTurn, finished: TurnFinished, notices: Sequence[str]) -> list[OutboundMessage]:
    """The messages that go out with the end of a turn; none when it has nothing to say, or no chat.

    The answer, and in words why there is none or not all of it; the last notice says which limit it met.
    """
    inbound, is_whole = turn.inbound, finished.stop_reason == "done"
    why = "" if is_whole else finished.error or "".join(notices[-1:])
    text = "\n\n".join(filter(None, [finished.text, why and f"⚠️ {why}"]))
    if not text or finished.stop_reason == "cancelled":  # /stop answers for itself
        return []
    if inbound.channel == "cli" and not inbound.deliver:  # a job that was set up on the command line
        log.log(logging.ERROR if finished.error else logging.INFO, "%s: %s", inbound.session_key, text)
        return []
    is_nothing = inbound.source in ("heartbeat", "report") and is_heartbeat_ok(finished.text)
    if is_whole and (is_nothing or not inbound.deliver):
        return []
    reply_id = f"turn-{turn.claim.turn_key}"
    return [OutboundMessage(reply_id, inbound.channel, inbound.chat_id, text, metadata=inbound.metadata)]


def is_heartbeat_ok(text: str) -> bool:
    """Whether a heartbeat found nothing to report, however it is decorated."""
    return text.strip(" \t\r\n*_`.~") == "HEARTBEAT_OK"
