"""What a Telegram message says: who wrote it, whether it is for the bot, and whose words are in it.

It is read as it came (https://core.telegram.org/bots/api#message): the library refuses a whole message for
one field of any object in it that is missing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from telegram import Message, User

from nanobot.channels.base import trust_of
from nanobot.channels.dialects import utf16_len
from nanobot.channels.incoming import UNSEEN, Incoming, attachment, described
from nanobot.messages import Attachment, Origin, Quoted

_Json = dict[str, Any]

_ADDRESSED_COMMAND = re.compile(r"(/[A-Za-z0-9_]+)@(\w+)")
_START = re.compile(r"\A/start(?=\s|\Z).*", re.DOTALL | re.IGNORECASE)
_GENERAL_TOPIC = 1
_FULL = 4096  # UTF-16 units, at which Telegram's programs cut; at a border in the second half if there is one
# Who is named as the origin of a forward; before Bot API 7.0 the message itself said it.
_ORIGINS = ("sender_user", "sender_chat", "chat", "sender_user_name")
_OLDER_ORIGINS = ("forward_from", "forward_from_chat", "forward_sender_name")
_FILES = {"voice": "voice.ogg", "video_note": "video.mp4"} | dict.fromkeys(
    ("document", "audio", "video"), "file"
)
# What else people send, and the fields that say something to them.
_CONTENT = (
    "venue location contact poll checklist dice story game invoice giveaway giveaway_winners paid_media"
)
_TELLING = (
    "emoji value title question first_name last_name phone_number address text description prize_description"
    " location latitude longitude options tasks chat"
)


def read_message(message: _Json, bot: User, allow_from: Sequence[str]) -> Incoming | None:
    """The message, unless nobody in particular wrote it. Access is not checked here."""
    chat_id, message_id = int(message["chat"]["id"]), int(message["message_id"])
    writer = message.get("sender_chat") or message.get("from") or {}
    names = (str(writer["username"]),) if writer.get("username") else ()
    if "sender_chat" in message:  # anonymous administrators and channels: only those that the owner listed
        listed = trust_of(allow_from, str(writer["id"]), names) == "owner"
        if not listed or message.get("is_automatic_forward"):
            return None
    elif not writer or writer.get("is_bot"):  # two bots might talk for ever
        return None
    original = message.get("reply_to_message") or {}
    if original.get("forum_topic_created"):  # in a topic, all messages answer its opening, which says nothing
        original = {}
    quoted, files = _answered(message, original or message.get("external_reply"), bot)
    answers, origin = (original.get("from") or {}).get("id") == bot.id, _origin(message)
    if origin is None:
        text, addressed = _text_for(message, bot)
    else:  # nothing in it is meant for the bot
        quoted.append(_quoted("forward", _words(message)[0], origin, bot))
        text, addressed = "", False
    if text is None:
        return None
    thread = message.get("message_thread_id") if message.get("is_topic_message") else None
    return Incoming(
        chat_id=str(chat_id),
        message_id=str(message_id),
        sender_id=str(int(writer["id"])),
        text=text,
        sender_names=names,
        sender_name=_name(writer),
        sent_at=min(time.time(), float(message["date"])),
        thread=str(thread) if thread not in (None, _GENERAL_TOPIC) else "",
        is_group=message["chat"]["type"] != "private",
        addressed=addressed or answers,
        attachments=(*_files(message, "author" if origin is None else "forward"), *files),
        quoted=tuple(quoted),
        album=str(message.get("media_group_id", "")),
        cut=_cut(message),
    )


def _cut(message: _Json) -> str | None:
    """What may have been lost behind the text because Telegram's programs cut it there, or None."""
    length = utf16_len(str(message.get("text", "")))
    return None if length <= _FULL // 2 else "\n" if length < _FULL else ""


def _text_for(message: _Json, bot: User) -> tuple[str | None, bool]:
    """What it says (None: nothing to the bot, or a command to another), and whether it names the bot."""
    kind = message["chat"]["type"]
    if kind == "channel":
        return None, False
    text, mentioned = _words(message, None if kind == "private" else bot)
    if command := _ADDRESSED_COMMAND.match(text):
        if _is_bot(command[2], bot):
            text, mentioned = command[1] + text[command.end() :], True
        elif kind != "private":
            return None, False
    return _START.sub("/help", text), mentioned


def _is_bot(name: str, bot: User) -> bool:
    return name.lower() == (bot.username or "").lower()


def _words(message: _Json, bot: User | None = None) -> tuple[str, bool]:
    """What a message says, with the addresses behind its words; and whether it names `bot`, left out then."""
    text = str(message.get("text") or message.get("caption") or "")
    entities = message.get("entities") or message.get("caption_entities") or ()
    units = text.encode("utf-16-le", "surrogatepass")
    mentioned, edge = False, len(units)
    for start, end, address in sorted(_links(units, entities, bot), reverse=True):
        if end <= edge:  # not one around the other
            edge, words, after = start, units[start:end].decode("utf-16-le", "replace"), units[end:]
            if not address:
                mentioned, words, after = True, "", after.removeprefix(" ".encode("utf-16-le"))
            linked = f"[{words}]({address})" if address else ""
            units = units[:start] + linked.encode("utf-16-le") + after
    text = units.decode("utf-16-le", "replace")
    return "\n".join(filter(None, (text.strip() if mentioned else text, _described(message)))), mentioned


def _links(units: bytes, entities: Sequence[Any], bot: User | None) -> Iterator[tuple[int, int, str]]:
    """Where words stand for an address, in bytes of UTF-16; the address is "" where they name the bot."""
    for entity in entities:
        user = entity.get("user") or {}
        start, end = 2 * entity.get("offset", 0), 2 * (entity.get("offset", 0) + entity.get("length", 0))
        words = units[start:end].decode("utf-16-le", "replace")
        mention = entity.get("type") == "mention"
        if bot and ((mention and _is_bot(words[1:], bot)) or user.get("id") == bot.id):
            yield start, end, ""
        elif address := entity.get("url") or (f"tg://user?id={user['id']}" if user else ""):
            yield start, end, address


def _described(message: _Json) -> str:
    """What a message holds that is neither text nor a file. Service messages say nothing."""
    if "sticker" in message:
        return str(message["sticker"].get("emoji") or described("sticker"))
    kinds = [kind for kind in _CONTENT.split() if kind in message]
    if not kinds and not message.keys() & {"text", "caption", "photo", *_FILES}:
        objects = [name for name, value in message.items() if isinstance(value, dict)]
        kinds = [n for n in objects if n not in ("from", "origin") and not hasattr(Message, n)]  # newer ones
    if not kinds:
        return ""
    content = message[kinds[0]]
    kind = "live location" if "live_period" in content else kinds[0].replace("_", " ")
    return described("quiz" if content.get("type") == "quiz" else kind, *_facts(content))


def _facts(content: Any) -> Iterator[str]:
    """What an object of Telegram tells people."""
    if isinstance(content, dict):
        for name in _TELLING.split():
            yield from _facts(content.get(name))
    elif isinstance(content, list):
        for item in content:
            yield from _facts(item)
    elif content not in (None, ""):
        yield str(content)


def _origin(message: _Json) -> _Json | str | None:
    """Whose words these are if they are not the sender's: forwarded ones, and those of an inline bot."""
    if "forward_origin" not in message and "forward_date" not in message:
        via: _Json | None = message.get("via_bot")
        return via
    origin = message.get("forward_origin") or {}
    named = [origin.get(name) for name in _ORIGINS] + [message.get(name) for name in _OLDER_ORIGINS]
    return next(filter(None, named), "")


def _name(writer: _Json | str) -> str:
    """What people see of a user or a chat; of hidden users there is only the name."""
    return writer if isinstance(writer, str) else " ".join(_facts(writer))


def _quoted(kind: Literal["reply", "quote", "forward"], text: str, author: _Json | str, bot: User) -> Quoted:
    own = isinstance(author, dict) and author.get("id") == bot.id
    return Quoted(kind, text, _name(author), own)


def _answered(
    message: _Json, original: _Json | None, bot: User
) -> tuple[list[Quoted], tuple[Attachment, ...]]:
    """The message it replies to, maybe of another chat, or the part that was picked out; with its files."""
    if not original:
        story = message.get("reply_to_story")
        return ([_quoted("reply", described("story"), story.get("chat") or "", bot)] if story else []), ()
    elsewhere: _Json = original.get("origin") or {}
    named = [_origin(original), *(elsewhere.get(name) for name in _ORIGINS), original.get("sender_chat")]
    author = next(filter(None, named), original.get("from") or "")
    files = _files(original, "quote")
    if picked := message.get("quote"):
        return [_quoted("quote", str(picked.get("text", "")), author, bot)], files
    words = _words(original)[0] or (described(files[0].name) if files else UNSEEN)
    return [_quoted("reply", words, author, bot)], files


def _files(message: _Json, origin: Origin) -> tuple[Attachment, ...]:
    """The file of a message (Telegram sends one each); a photo in its largest size."""
    if sizes := message.get("photo"):
        largest = max(sizes, key=lambda size: size.get("width", 0) * size.get("height", 0))
        return (attachment(largest["file_id"], "photo.jpg", "", origin=origin),)
    for kind in _FILES.keys() & message.keys():
        name = message[kind].get("file_name") or _FILES[kind]
        return (attachment(message[kind]["file_id"], name, message[kind].get("mime_type"), origin=origin),)
    return ()
