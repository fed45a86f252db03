"""The Bot API as the channel uses it: the library's Bot, what its errors mean for the owner, and what a
message says: who wrote it, whether it is for the bot, and whose words are in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import httpx
from telegram import Bot, Message, MessageEntity, MessageOrigin, User
from telegram.constants import ChatType, MessageEntityType
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    TelegramError,
)
from telegram.request import HTTPXRequest

from nanobot.channels.base import trust_of
from nanobot.channels.incoming import Incoming, attachment
from nanobot.channels.splitting import utf16_len
from nanobot.channels.telegram_config import TelegramConfig
from nanobot.config.proxies import proxy_for
from nanobot.errors import ChannelError, MarkupRefused, MessageGone
from nanobot.messages import Attachment, Quoted

_OFFICIAL_SERVER = "https://api.telegram.org"
_TOKEN = re.compile(r"\d+:[A-Za-z0-9_-]+")
_SEND_TIMEOUT = 20.0  # seconds without a byte
_UPLOAD_TIMEOUT = 100.0
_CONNECTIONS = 16

# What Telegram says, in lower case, and what the owner is told instead.
_MEANINGS = {
    "file is too big": "Telegram gives bots no files over 20 MB.",
    "chat not found": "Telegram knows no such chat: the person has to write to the bot first.",
    "bot was blocked": "The person has blocked the bot.",
    "bot was kicked": "The bot was removed from the group.",
    "user is deactivated": "The person has deleted their account.",
}
_ADDRESSED_COMMAND = re.compile(r"(/[A-Za-z0-9_]+)@(\w+)")
_START = re.compile(r"/start(?=\s|$).*", re.DOTALL | re.IGNORECASE)
_GENERAL_TOPIC = 1
_FULL = 4096  # UTF-16 units after which Telegram's own programs begin another message


@contextlib.asynccontextmanager
async def open_bot(config: TelegramConfig) -> AsyncIterator[tuple[Bot, HTTPXRequest]]:
    """The bot of a config, and the connection for its polls; neither makes a request by itself.

    Raises ChannelError when the config cannot work.
    """
    token = config.token.strip()
    if not _TOKEN.fullmatch(token):
        raise ChannelError(
            "channels.telegram.token is no bot token: @BotFather gives you one like 123456:ABC-DEF.",
            permanent=True,
        )
    _keep_addresses_out_of_logs()
    server = (config.api_base or _OFFICIAL_SERVER).rstrip("/")
    named = proxy_for(server)
    proxy = config.proxy or (named.url if named else None)
    polls, calls = _new_request(proxy, 1), _new_request(proxy, _CONNECTIONS)
    try:
        # Not `initialize`d: that would check the token with an error that spells it out.
        yield Bot(token, f"{server}/bot", f"{server}/file/bot", request=calls), polls
    finally:
        await polls.shutdown()
        await calls.shutdown()


@contextlib.contextmanager
def channel_errors() -> Iterator[None]:
    """Turns the library's errors into ChannelError; that an edit changes nothing is none."""
    try:
        yield
    except TelegramError as error:
        if not _says(error, "message is not modified"):
            raise _channel_error(error) from error


def _says(error: TelegramError, *words: str) -> bool:
    """Whether Telegram's description holds one of `words`; the library changes its case."""
    return any(word in str(error).lower() for word in words)


class _FloodWait(TelegramError):
    """Too many requests, with the seconds to wait. The library's own error for it warns of deprecation."""


class _Request(HTTPXRequest):
    """Reads some refusals before the library does, which logs every error page as a bug."""

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        status, payload = await super().do_request(*args, **kwargs)
        if status == 429:
            raise _FloodWait(f"{_retry_after(payload):.0f}")
        if status == 413:
            raise BadRequest("The file is larger than Telegram takes")
        if status >= 500:
            raise NetworkError(f"status {status}")
        return status, payload


def _retry_after(payload: bytes) -> float:
    try:
        return float(json.loads(payload)["parameters"]["retry_after"])
    except (ValueError, KeyError, TypeError):
        return 5.0


def _new_request(proxy: str | None, connections: int) -> HTTPXRequest:
    # The reasons are left out below: they would spell out the address with its password.
    try:
        return _Request(
            proxy=proxy,
            connection_pool_size=connections,
            read_timeout=_SEND_TIMEOUT,
            write_timeout=_SEND_TIMEOUT,
            pool_timeout=_SEND_TIMEOUT,
            media_write_timeout=_UPLOAD_TIMEOUT,
        )
    except RuntimeError:
        raise ChannelError(
            'A SOCKS proxy needs a library that is missing. Run: pip install "python-telegram-bot[socks]"',
            permanent=True,
        ) from None
    except (ValueError, httpx.InvalidURL):
        raise ChannelError(
            "channels.telegram.proxy is no proxy address: write http://host:port or socks5://host:port.",
            permanent=True,
        ) from None


def _keep_addresses_out_of_logs() -> None:
    """The token is part of every address, and these loggers write addresses below these levels."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    logging.getLogger("telegram").setLevel(logging.INFO)


def _channel_error(error: TelegramError) -> ChannelError:
    text = _TOKEN.sub("***", str(error)).strip().rstrip(".")
    meaning = next((meaning for said, meaning in _MEANINGS.items() if _says(error, said)), "")
    match error:
        case _FloodWait():
            return ChannelError(f"Telegram asks to wait {text} seconds.", retry_after=float(text))
        case InvalidToken():
            return ChannelError(
                "Telegram does not accept the bot token: compare channels.telegram.token with @BotFather's.",
                permanent=True,
            )
        case Conflict():
            return ChannelError(
                "Another program receives the messages of this bot: stop it, or create a bot of its own "
                f"for nanobot ({text})."
            )
        case ChatMigrated():
            return ChannelError(f"The group has a new id now: {error.new_chat_id}.", permanent=True)
        case BadRequest() if _says(error, "entit", "too long"):
            return MarkupRefused(f"{text}.", permanent=True)
        case BadRequest() if _says(error, "message to edit not found", "can't be edited"):
            return MessageGone(f"{text}.", permanent=True)
        case BadRequest() | Forbidden():
            return ChannelError(meaning or f"Telegram refused the request: {text}.", permanent=True)
    return ChannelError(f"Telegram cannot be reached ({text}).")


def is_unfinished(update: dict[str, Any]) -> bool:
    """Whether more of its message may follow at once: the rest of an album, or of a text that was cut."""
    message = update.get("message")
    return isinstance(message, dict) and (
        "media_group_id" in message or utf16_len(str(message.get("text", ""))) >= _FULL
    )


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
    writer = message.sender_chat or message.from_user
    if writer is None:
        return "", (), ""
    names = (writer.username,) if writer.username else ()
    if isinstance(writer, User):
        return ("" if writer.is_bot else str(writer.id)), names, writer.full_name
    known = trust_of(allow_from, str(writer.id), names) == "owner" and not message.is_automatic_forward
    return (str(writer.id) if known else ""), names, writer.effective_name or ""


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
    if not message.text and not message.caption:
        return []
    entities = message.parse_entities() if message.text else message.parse_caption_entities()
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
