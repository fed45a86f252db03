"""From a Telegram message to an InboundMessage: who wrote it, whether it is for the bot, and what it says."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from telegram import Message, MessageEntity, User
from telegram.constants import ChatType, MessageEntityType

from nanobot.channels.base import is_allowed
from nanobot.config.channels import TelegramConfig
from nanobot.messages import Attachment, InboundMessage
from nanobot.paths import safe_name

_ADDRESSED_COMMAND = re.compile(r"(/[A-Za-z0-9_]+)@(\w+)")
_START = re.compile(r"/start(?=\s|$).*", re.DOTALL | re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+")
_GENERAL_TOPIC = 1


@dataclass(frozen=True, slots=True)
class Sender:
    """Who wrote a message; `names` are user names without the `@`."""

    id: str
    names: tuple[str, ...]


def read_message(
    message: Message, bot: User, channel: str, config: TelegramConfig
) -> tuple[InboundMessage, Sender] | None:
    """The message if `bot` should answer it, else None. Access is not checked here."""
    sender = _sender(message, config.allow_from)
    text = _text_for(message, bot, everything=config.group_policy == "open")
    if sender is None or text is None:
        return None
    attachments = _attachments(message)
    if not text and not attachments:
        return None
    thread = _topic(message)
    metadata = {"message_id": str(message.message_id)}
    if thread is not None:
        metadata["thread"] = str(thread)
    chat_id = str(message.chat.id)
    inbound = InboundMessage(
        channel=channel,
        chat_id=chat_id,
        sender_id=sender.id,
        text=text,
        external_id=f"{chat_id}:{message.message_id}",
        session_key=":".join([channel, chat_id, *([str(thread)] if thread is not None else [])]),
        sent_at=message.date.timestamp(),
        attachments=attachments,
        metadata=metadata,
        is_group=message.chat.type != ChatType.PRIVATE,
    )
    return inbound, sender


def _sender(message: Message, allow_from: Sequence[str]) -> Sender | None:
    """A person. Bots are never answered, or two of them could talk for ever.

    Who writes as a chat (anonymous administrators, channels) is nobody in particular, and counts only
    if the owner listed that chat.
    """
    if message.sender_chat is not None:
        chat = Sender(str(message.sender_chat.id), _names(message.sender_chat.username))
        listed = [entry for entry in allow_from if entry.strip() != "*"]
        known = bool(listed) and is_allowed(listed, chat.id, chat.names)
        return chat if known and not message.is_automatic_forward else None
    user = message.from_user
    if user is None or user.is_bot:
        return None
    return Sender(str(user.id), _names(user.username))


def _names(username: str | None) -> tuple[str, ...]:
    return (username,) if username else ()


def _text_for(message: Message, bot: User, *, everything: bool) -> str | None:
    """What the message says to the bot, or None when it is not for the bot.

    In groups it is when it names the bot, answers it, or is a command with its name.
    """
    text = _words(message)
    if message.chat.type == ChatType.CHANNEL:
        return None
    command = _ADDRESSED_COMMAND.match(text)
    if message.chat.type != ChatType.PRIVATE:
        mentions = _mentions(message, bot)
        text = _without(text, mentions)
        command = _ADDRESSED_COMMAND.match(text)
        if command and not _is_name(command[2], bot):
            return None
        if not (everything or mentions or command or _answers(message, bot)):
            return None
    if command and _is_name(command[2], bot):
        text = command[1] + text[command.end() :]
    return _START.sub("/help", text) if _START.match(text) else text


def _is_name(name: str, bot: User) -> bool:
    return name.lower() == (bot.username or "").lower()


def _words(message: Message) -> str:
    if message.location is not None:
        return f"[location: {message.location.latitude}, {message.location.longitude}]"
    if message.sticker is not None:
        return message.sticker.emoji or ""
    return message.text or message.caption or ""


def _mentions(message: Message, bot: User) -> list[MessageEntity]:
    """The places where the message names the bot."""
    entities: Mapping[MessageEntity, str] = {}
    if message.text:
        entities = message.parse_entities()
    elif message.caption:
        entities = message.parse_caption_entities()
    return [
        entity
        for entity, words in entities.items()
        if (entity.type == MessageEntityType.MENTION and _is_name(words.removeprefix("@"), bot))
        or (entity.user is not None and entity.user.id == bot.id)
    ]


def _without(text: str, entities: Iterable[MessageEntity]) -> str:
    """The text without the entities and the space behind each; their offsets count UTF-16 units."""
    units = text.encode("utf-16-le")
    space = " ".encode("utf-16-le")
    for entity in sorted(entities, key=lambda entity: entity.offset, reverse=True):
        start, end = 2 * entity.offset, 2 * (entity.offset + entity.length)
        units = units[:start] + units[end:].removeprefix(space)
    return units.decode("utf-16-le", "replace").strip()


def _answers(message: Message, bot: User) -> bool:
    """Whether it is a reply to the bot; in a topic, all messages are replies to the topic's opening."""
    original = message.reply_to_message
    if original is None or original.from_user is None or original.forum_topic_created is not None:
        return False
    return original.from_user.id == bot.id


def _topic(message: Message) -> int | None:
    """The topic's thread. Plain groups number their reply threads too, but have no topics."""
    thread = message.message_thread_id
    if not message.is_topic_message or thread == _GENERAL_TOPIC:
        return None
    return thread


def _attachments(message: Message) -> tuple[Attachment, ...]:
    """The file of a message (Telegram sends one each); a photo in its largest size."""
    if message.photo:
        largest = max(message.photo, key=lambda size: size.width * size.height)
        return (_attachment(largest.file_id, "photo.jpg", ""),)
    if note := message.video_note:
        return (_attachment(note.file_id, "video.mp4", ""),)
    if voice := message.voice:
        return (_attachment(voice.file_id, "voice.ogg", voice.mime_type),)
    if file := message.document or message.audio or message.video:
        return (_attachment(file.file_id, file.file_name or "file", file.mime_type),)
    return ()


def _attachment(file_id: str, name: str, media_type: str | None) -> Attachment:
    """Name and type are what the sender's program claims."""
    kind = media_type or ""
    if not _MEDIA_TYPE.fullmatch(kind):
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Attachment("", safe_name(name), kind, ref=file_id)
