"""The message tool: words and files to a chat, through the outbox."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import Sequence
from pathlib import Path

from nanobot.agent.tools import TEXT, Tool, current_call_id, current_turn, object_schema
from nanobot.errors import ToolError
from nanobot.messages import Attachment, OutboundMessage
from nanobot.paths import make_private_dir, outgoing_dir, write_atomic
from nanobot.security.files import PathPolicy
from nanobot.store.store import Store

_LARGEST = 100 << 20  # bytes: more than any channel takes


class MessageTool(Tool):
    """Sends once even if a crash makes its turn run again: the call's id is the delivery's key."""

    name = "message"
    description = (
        "Send text or files to a chat now; without channel and chat_id, to this one. Your final answer"
        " is delivered by itself: use this for files, for interim news, or for another chat."
    )
    parameters = object_schema(
        "content",
        content=TEXT,
        channel=TEXT,
        chat_id=TEXT,
        media={"type": "array", "items": TEXT, "description": "File paths"},
    )
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
        if not here and target[1] not in await self._store.inbox.chats(target[0]):
            raise ToolError(
                f"No chat {target[0]}:{target[1]} has ever written to this bot, so it cannot be written to."
            )
        key = f"turn-{turn.turn_id}-call-{current_call_id()}"
        files = await asyncio.to_thread(self._copies, media, key) if media else ()
        await self._store.outbox.enqueue(
            OutboundMessage(
                id=key,
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

    def _copies(self, media: Sequence[str], key: str) -> tuple[Attachment, ...]:
        """The files as they are now: when they go out, something else may be at their paths."""
        folder = make_private_dir(outgoing_dir())
        stem = hashlib.sha256(key.encode()).hexdigest()[:16]
        return tuple(self._copy(path, folder / f"{stem}-{number}") for number, path in enumerate(media))

    def _copy(self, path: str, target: Path) -> Attachment:
        try:
            with self._paths.open_file(path) as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise ToolError(f"Cannot send {path}: {error.strerror}.") from error
        if len(data) > _LARGEST:
            raise ToolError(f"Cannot send {path}: it is larger than {_LARGEST >> 20} MB.")
        write_atomic(target, data)
        name = self._paths.resolve(path).name
        return Attachment(str(target), name, mimetypes.guess_type(name)[0] or "application/octet-stream")
