"""From a Telegram message to what the base takes: who wrote it, whether it is for the bot, what it says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from telegram import Message, MessageEntity, MessageOrigin, User
from telegram.constants import ChatType, MessageEntityType

from nanobot.channels.base import trust_of
from nanobot.channels.incoming import Incoming, attachment
from nanobot.channels.splitting import utf16_len
from nanobot.messages import Attachment, Quoted

_ADDRESSED_COMMAND = re.compile(r"(/[A-Za-z0-9_]+)@(\w+)")
_START = re.compile(r"/start(?=\s|$).*", re.DOTALL | re.IGNORECASE)
_GENERAL_TOPIC = 1
_DOWNLOAD_LIMIT = 20 * 1024 * 1024
_FULL = 4096  # UTF-16 units after which Telegram's own programs begin another message


def read_message(message: Message, bot: User, allow_from: Sequence[str]) -> Incoming | None:
    """The message, unless nobody in particular wrote it. Access is not checked here."""
    sender_id, names, shown_name = _sender(message, allow_from)
    text, addressed = _text_for(message, bot)
    if not sender_id or text is None:
        return None
    thread = _topic(message)
    forward = message.forward_origin
    quoted = _quoted(message, bot)
    if forward is not None:
        quoted, text = (*quoted, Quoted("forward", text, _author(forward))), ""
    return Incoming(
        chat_id=str(message.chat.id),
        message_id=str(message.message_id),
        sender_id=sender_id,
        text=text,
        sender_names=names,
        sender_name=shown_name,
        sent_at=message.date.timestamp(),
        thread=str(thread) if thread is not None else "",
        is_group=message.chat.type != ChatType.PRIVATE,
        addressed=addressed,
        attachments=_attachments(message),
        quoted=quoted,
        album=message.media_group_id or "",
        cut=utf16_len(message.text or "") >= _FULL,
    )


def _sender(message: Message, allow_from: Sequence[str]) -> tuple[str, tuple[str, ...], str]:
    """Id (empty: nobody), user names and shown name. Bots are never answered, or two might talk for ever.

    Who writes as a chat (anonymous administrators, channels) is nobody in particular, and counts only
    if the owner listed that chat.
    """
    if (chat := message.sender_chat) is not None:
        names = _names(chat.username)
        listed = trust_of(allow_from, str(chat.id), names) == "owner"
        known = listed and not message.is_automatic_forward
        return (str(chat.id) if known else ""), names, chat.effective_name or ""
    user = message.from_user
    if user is None or user.is_bot:
        return "", (), ""
    return str(user.id), _names(user.username), user.full_name


def _names(username: str | None) -> tuple[str, ...]:
    return (username,) if username else ()


def _text_for(message: Message, bot: User) -> tuple[str | None, bool]:
    """What it says (None: nothing to the bot, or a command to another), and whether it is addressed to it.

    In groups it is when it mentions the bot, answers it, or is a command with its name.
    """
    text = _words(message)
    if message.chat.type == ChatType.CHANNEL:
        return None, False
    command = _ADDRESSED_COMMAND.match(text)
    addressed = False
    if message.chat.type != ChatType.PRIVATE:
        mentions = _mentions(message, bot)
        text = _without(text, mentions)
        command = _ADDRESSED_COMMAND.match(text)
        if command and not _is_name(command[2], bot):
            return None, False
        addressed = bool(mentions or command or _answers(message, bot))
    if command and _is_name(command[2], bot):
        text = command[1] + text[command.end() :]
    return (_START.sub("/help", text) if _START.match(text) else text), addressed


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


def _answered(message: Message) -> Message | None:
    """What it replies to; in a topic, all messages are replies to the topic's opening, which says nothing."""
    original = message.reply_to_message
    return None if original is None or original.forum_topic_created is not None else original


def _answers(message: Message, bot: User) -> bool:
    original = _answered(message)
    return bool(original and original.from_user and original.from_user.id == bot.id)


def _quoted(message: Message, bot: User) -> tuple[Quoted, ...]:
    """The message it replies to, or the part of it that was picked out; also one of another chat."""
    original, picked, elsewhere = _answered(message), message.quote, message.external_reply
    author = ""
    if original is not None and original.from_user is not None:
        author = original.from_user.full_name
    elif elsewhere is not None:
        author = _author(elsewhere.origin)
    if picked is not None:
        return (Quoted("quote", picked.text, author),)
    words = _words(original) if original else ""
    return (Quoted("reply", words, author),) if words else ()


def _author(origin: MessageOrigin) -> str:
    """Whose words were forwarded; the four kinds of origin name them differently."""
    for field in ("sender_user", "sender_chat", "chat"):
        if (author := getattr(origin, field, None)) is not None:
            return author.full_name if field == "sender_user" else author.effective_name or ""
    return getattr(origin, "sender_user_name", "")


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
        return (attachment(largest.file_id, "photo.jpg", ""),)
    if note := message.video_note:
        return (attachment(note.file_id, "video.mp4", ""),)
    if voice := message.voice:
        return (attachment(voice.file_id, "voice.ogg", voice.mime_type),)
    if file := message.document or message.audio or message.video:
        return (attachment(file.file_id, file.file_name or "file", file.mime_type),)
    return ()
