"""What a platform's parser returns, and what becomes of it: who wrote it, whether it is meant for the bot,
which messages are one, and whose words are in it.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nanobot.config.channels import GroupPolicy
from nanobot.messages import Attachment, InboundMessage, Origin, Quoted
from nanobot.paths import safe_name

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
UNSEEN = "[a message that cannot be read here]"
_LARGEST = 20 << 20  # bytes of a file that is fetched
_TOGETHER = 2.0  # seconds between two messages that a program sends as one


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as its platform's parser reads it.

    `message_id` is unique in its chat; the same one is accepted once. `sender_names` are names that
    `allowFrom` may list, `sender_name` is the one people see. `addressed`: it names the bot, answers it or
    is a command to it. `quoted` is what the sender did not write; `text` only what they did.

    Messages of the same `album` are one. `cut`: what was lost behind this text, where a longer one may have
    been cut; None: it was not. `joined_ids` are the ids of messages that became part of this one.
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
    cut: str | None = None
    joined_ids: tuple[str, ...] = ()

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
            joined_ids=tuple(f"{self.chat_id}:{message_id}" for message_id in self.joined_ids),
        )


def is_meant(message: Incoming, policy: GroupPolicy, chats: Sequence[str]) -> bool:
    """Whether the bot should answer, by the group policy; `chats` are those of the policy `allowlist`."""
    if not (message.text or message.attachments or message.quoted):
        return False
    if policy == "allowlist" and message.is_group:
        return message.chat_id in chats
    return not message.is_group or message.addressed or policy == "open"


def may_go_on(message: Incoming | None, *, comments: bool) -> bool:
    """Whether more of what its sender says may follow at once; of `comments`, too: a forward."""
    if message is None or message.text.startswith("/"):
        return False
    comment = message.text and not message.attachments and not message.quoted
    return bool(message.album or message.cut is not None or _only_forwards(message) or (comments and comment))


def continues(before: Incoming, after: Incoming) -> bool:
    """Whether both, of one sender and chat, are one: an album, a text that was cut, comment and forwards."""
    if before.album and before.album == after.album:
        return True
    commands = any(message.text.startswith("/") for message in (before, after))  # stand for themselves
    related = before.cut is not None or _only_forwards(before) or _only_forwards(after)
    return related and not commands and abs(after.sent_at - before.sent_at) <= _TOGETHER


def _only_forwards(message: Incoming) -> bool:
    return not message.text and any(quoted.kind == "forward" for quoted in message.quoted)


def joined(before: Incoming, after: Incoming) -> Incoming:
    """Both as one message."""
    separator = "\n" if before.cut is None else before.cut
    return replace(
        before,
        text=separator.join(text for text in (before.text, after.text) if text),
        addressed=before.addressed or after.addressed,
        attachments=before.attachments
        + tuple(item for item in after.attachments if item not in before.attachments),
        quoted=before.quoted + tuple(item for item in after.quoted if item not in before.quoted),
        sent_at=after.sent_at,
        cut=after.cut,
        joined_ids=(*before.joined_ids, after.message_id),
    )


def described(kind: str, *facts: object) -> str:
    """A message that is neither words nor a file, in words: `[kind: fact, fact]`."""
    known = ", ".join(str(fact) for fact in facts if fact not in (None, ""))
    return f"[{kind}: {known}]" if known else f"[{kind}]"


def attachment(
    ref: str, name: str, media_type: str | None, *, size: int = 0, origin: Origin = "author"
) -> Attachment:
    """A file on its platform. Name and type are what the sender's program claims; sizes are in bytes."""
    name, kind = safe_name(name or "file"), media_type or ""
    if not _MEDIA_TYPE.fullmatch(kind):
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    error = f"it is larger than {_LARGEST >> 20} MB" if size > _LARGEST else ""
    return Attachment("", name, kind, ref=ref, error=error, origin=origin)
