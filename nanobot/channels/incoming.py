"""What a platform's parser returns, and what becomes of it: who wrote it, whether it is meant for the bot,
which messages are one, and whose words are in it.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nanobot.config.channels import GroupPolicy
from nanobot.messages import Attachment, InboundMessage, Quoted
from nanobot.paths import safe_name

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
_TOGETHER = 2.0  # seconds between two messages that a program sends as one


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as its platform's parser reads it.

    `message_id` is unique in its chat; the same one is accepted once. `sender_names` are names that
    `allowFrom` may list, `sender_name` is the one people see. `addressed`: it names the bot, answers it or
    is a command to it. `quoted` is what the sender did not write; `text` only what they did.

    Messages of the same `album` are one; `cut` says that the sender's program had to cut the text here.
    """

    chat_id: str
    message_id: str
    sender_id: str
    text: str
    sender_names: tuple[str, ...] = ()
    sender_name: str = ""
    sent_at: float = 0.0
    thread: str = ""
    is_group: bool = False
    addressed: bool = False
    attachments: tuple[Attachment, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    album: str = ""
    cut: bool = False

    def inbound(self, channel: str) -> InboundMessage:
        """What the turn gets."""
        thread = [self.thread] if self.thread else []
        return InboundMessage(
            channel=channel,
            chat_id=self.chat_id,
            sender_id=self.sender_id,
            text=self.text,
            external_id=f"{self.chat_id}:{self.message_id}",
            session_key=":".join([channel, self.chat_id, *thread]),
            sent_at=self.sent_at,
            attachments=self.attachments,
            metadata={"message_id": self.message_id} | ({"thread": self.thread} if thread else {}),
            is_group=self.is_group,
            quoted=self.quoted,
            sender_name=self.sender_name,
        )


def is_meant(message: Incoming, policy: GroupPolicy, chats: Sequence[str]) -> bool:
    """Whether the bot should answer, by the group policy; `chats` are those of the policy `allowlist`."""
    if not (message.text or message.attachments or message.quoted):
        return False
    if policy == "allowlist" and message.is_group:
        return message.chat_id in chats
    return not message.is_group or message.addressed or policy == "open"


def continues(before: Incoming, after: Incoming) -> bool:
    """Whether both are one: parts of an album, of a text that was cut, or a comment and its forwards."""
    if (before.chat_id, before.thread, before.sender_id) != (after.chat_id, after.thread, after.sender_id):
        return False
    if before.album or after.album:
        return before.album == after.album
    forwarded = not after.text and any(quoted.kind == "forward" for quoted in after.quoted)
    commented = forwarded and not before.text.startswith("/")  # a command stands for itself
    return (before.cut or commented) and after.sent_at - before.sent_at <= _TOGETHER


def joined(before: Incoming, after: Incoming) -> Incoming:
    """Both as one message, known by the id of the first."""
    separator = "" if before.cut else "\n"
    return replace(
        before,
        text=separator.join(text for text in (before.text, after.text) if text),
        addressed=before.addressed or after.addressed,
        attachments=before.attachments + after.attachments,
        quoted=before.quoted + tuple(item for item in after.quoted if item not in before.quoted),
        sent_at=after.sent_at,
        cut=after.cut,
    )


def attachment(ref: str, name: str, media_type: str | None, *, size: int = 0, limit: int = 0) -> Attachment:
    """A file on its platform. Name and type are what the sender's program claims; sizes are in bytes."""
    kind = media_type or ""
    if not _MEDIA_TYPE.fullmatch(kind):
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    error = f"it is larger than {limit >> 20} MB" if limit and size > limit else ""
    return Attachment("", safe_name(name or "file"), kind, ref=ref, error=error)
