"""The message tool: words and files to a chat, through the outbox."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Sequence

from nanobot.agent.tools.base import Tool, TurnContext, current_call_id, current_turn
from nanobot.errors import ToolError
from nanobot.messages import Attachment, OutboundMessage
from nanobot.security.files import PathPolicy
from nanobot.store.store import Store


class MessageTool(Tool):
    """Sends once even if a crash makes its turn run again: the call's id is the delivery's key."""

    name = "message"
    description = (
        "Send text or files to a chat now; without channel and chat_id, to this one. Your final answer"
        " is delivered by itself: use this for files, for interim news, or for another chat."
    )
    parameters = {
        "type": "object",
        "properties": {
            "content": {"type": "string"},
            "channel": {"type": "string"},
            "chat_id": {"type": "string"},
            "media": {"type": "array", "items": {"type": "string"}, "description": "File paths"},
        },
        "required": ["content"],
    }
    errors_are_text = False
    repeatable = True
    owner_only = True

    def __init__(self, store: Store, paths: PathPolicy) -> None:
        self._store = store
        self._paths = paths

    async def execute(
        self, content: str, channel: str = "", chat_id: str = "", media: Sequence[str] = ()
    ) -> str:
        turn = current_turn()
        target = (channel or turn.inbound.channel, chat_id or turn.inbound.chat_id)
        here = target == (turn.inbound.channel, turn.inbound.chat_id)
        if not content.strip() and not media:
            raise ToolError("There is nothing to send: give content or media.")
        if target[0] == "cli":
            raise ToolError("The terminal shows your answer by itself. Name another channel and chat_id.")
        if not here and turn.inbound.source != "person":
            raise ToolError("A scheduled job, heartbeat or subagent's report speaks in its own chat only.")
        if not here and not await self._store.inbox.knows_chat(*target):
            raise ToolError(
                f"No chat {target[0]}:{target[1]} has ever written to this bot, so it cannot be written to."
            )
        files = await asyncio.to_thread(self._attachments, media)
        await self._store.outbox.enqueue(
            OutboundMessage(
                id=_delivery_key(turn, current_call_id()),
                channel=target[0],
                chat_id=target[1],
                text=content,
                kind="message",
                attachments=files,
                metadata=turn.inbound.metadata if here else {},
            ),
            turn.number,
        )
        return f"Queued for {target[0]}:{target[1]}."

    def _attachments(self, media: Sequence[str]) -> tuple[Attachment, ...]:
        return tuple(self._attachment(path) for path in media)

    def _attachment(self, path: str) -> Attachment:
        try:
            self._paths.open_file(path).close()
        except OSError as error:
            raise ToolError(f"Cannot send {path}: {error.strerror}.") from error
        resolved = self._paths.resolve(path)
        kind = mimetypes.guess_type(resolved.name)[0] or "application/octet-stream"
        return Attachment(str(resolved), resolved.name, kind)


def _delivery_key(turn: TurnContext, call_id: str) -> str:
    """The delivery key of a message sent by a tool call."""
    return f"turn-{turn.turn_id}-call-{call_id}"
