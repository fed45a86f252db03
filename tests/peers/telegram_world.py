"""What Telegram knows: users, chats, messages, files and the updates that wait for the bot.

`World` and `User` are also the hands of a test: they send, edit and press buttons as people do.
"""

from __future__ import annotations

import asyncio
import itertools
import mimetypes
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.peers.telegram_html import Entity, utf16

T = TypeVar("T")
Json = dict[str, Any]

_BOT_ENTITIES = {
    "bot_command": re.compile(r"(?<![\w/])/[A-Za-z0-9_]{1,32}(?:@[A-Za-z]\w{3,31})?(?![\w/])"),
    "mention": re.compile(r"(?<![\w/])@[A-Za-z]\w{3,31}"),
    "url": re.compile(r"https?://\S+"),
}
_NOT_BY_DEFAULT = {"chat_member", "message_reaction", "message_reaction_count"}


def found_entities(text: str) -> list[Entity]:
    """Commands, mentions and links as a Telegram client marks them, offsets in UTF-16 units."""
    entities = [
        Entity(kind, utf16(text[: match.start()]), utf16(match[0]))
        for kind, pattern in _BOT_ENTITIES.items()
        for match in pattern.finditer(text)
    ]
    return sorted(entities, key=lambda entity: entity.offset)


@dataclass
class Chat:
    """A private chat (its id is the user's), a group, or a supergroup, maybe with topics."""

    id: int
    type: str
    name: str
    username: str = ""
    topics: dict[int, str] = field(default_factory=dict)
    blocked: bool = False

    def to_json(self) -> Json:
        shown: Json = {"id": self.id, "type": self.type}
        shown["first_name" if self.type == "private" else "title"] = self.name
        if self.username:
            shown["username"] = self.username
        if self.topics:
            shown["is_forum"] = True
        return shown


@dataclass
class Sent:
    """A message of the bot as people see it now. `edits` holds (text before, loop time of the edit)."""

    message_id: int
    chat_id: int
    kind: str
    text: str = ""
    entities: list[Entity] = field(default_factory=list)
    thread_id: int | None = None
    reply_to: int | None = None
    file_name: str = ""
    file_data: bytes = b""
    markup: Any = None
    edits: list[tuple[str, float]] = field(default_factory=list)
    deleted: bool = False

    def to_json(self) -> Json:
        plain = {name: value for name, value in vars(self).items() if name not in ("file_data", "entities")}
        return {**plain, "entities": [e.to_json() for e in self.entities], "file_size": len(self.file_data)}


@dataclass
class User:
    """A person. Every method is something that person does."""

    world: World
    id: int
    username: str
    first_name: str

    def to_json(self) -> Json:
        shown = {"id": self.id, "is_bot": False, "first_name": self.first_name}
        return {**shown, "username": self.username} if self.username else shown

    def send(
        self,
        text: str = "",
        *,
        chat: Chat | None = None,
        thread: int | None = None,
        reply_to: int | None = None,
        photo: bytes | None = None,
        document: tuple[str, bytes] | None = None,
        voice: bytes | None = None,
    ) -> Json:
        """Send a message (with a file, `text` is its caption); returns it as the bot will see it."""
        where = chat or self.world.chats[self.id]
        message = self.world.new_message(where, self.to_json(), thread, reply_to)
        message.update(self.world.media(photo, document, voice))
        field_names = ("caption", "caption_entities") if len(message.keys() & MEDIA) else ("text", "entities")
        message.update(_marked(text, field_names))
        self.world.add_update("message", message)
        return message

    def edit(self, message: Json, text: str) -> Json:
        """Change the text of an own message."""
        stored = self.world.messages[message["chat"]["id"], message["message_id"]]
        stored.update(_marked(text, ("text", "entities")), edit_date=int(time.time()))
        self.world.add_update("edited_message", stored)
        return stored

    def press(self, sent: Sent, data: str) -> str:
        """Press an inline button of the bot's message; returns the query id."""
        query_id = str(next(self.world.numbers))
        self.world.open_queries.add(query_id)
        message = self.world.messages[sent.chat_id, sent.message_id]
        query = {"id": query_id, "from": self.to_json(), "message": message, "data": data}
        self.world.add_update("callback_query", {**query, "chat_instance": str(sent.chat_id)})
        return query_id

    def block(self, blocked: bool = True) -> None:
        """Block the bot: every message to this user is refused."""
        self.world.chats[self.id].blocked = blocked


MEDIA = {"photo", "document", "voice"}


def _marked(text: str, names: tuple[str, str]) -> Json:
    entities = [entity.to_json() for entity in found_entities(text)]
    return {names[0]: text, **({names[1]: entities} if entities else {})} if text else {}


class World:
    """The whole platform as one bot sees it. Nothing is persisted."""

    def __init__(self, bot_username: str) -> None:
        self.bot: Json = {"id": 123456, "is_bot": True, "first_name": "Nano", "username": bot_username}
        self.numbers = itertools.count(1)
        self.chats: dict[int, Chat] = {}
        self.messages: dict[tuple[int, int], Json] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        self.updates: list[Json] = []
        self.allowed_updates: list[str] = []
        self.sent: list[Sent] = []
        self.actions: list[tuple[int, int | None, str]] = []
        self.reactions: dict[tuple[int, int], list[str]] = {}
        self.commands: dict[str, list[Json]] = {}
        self.open_queries: set[str] = set()
        self.answered_queries: dict[str, str] = {}
        self.webhook_url = ""
        self.edit_interval = 0.0
        self._update_ids = itertools.count(700_000_001)
        self._changed = asyncio.Event()

    def user(self, id: int, username: str = "", first_name: str = "Somebody") -> User:
        """A person who has started a chat with the bot."""
        self.chats[id] = Chat(id, "private", first_name, username)
        return User(self, id, username, first_name)

    def group(self, id: int, title: str, *, topics: dict[int, str] | None = None, username: str = "") -> Chat:
        """A supergroup the bot reads in full; with `topics` (thread id to name) a forum."""
        self.chats[id] = Chat(id, "supergroup", title, username, dict(topics or {}))
        return self.chats[id]

    def new_message(
        self, chat: Chat, sender: Json, thread: int | None = None, reply_to: int | None = None
    ) -> Json:
        message: Json = {"message_id": next(self.numbers), "from": sender, "chat": chat.to_json()}
        message["date"] = int(time.time())
        if thread is not None:
            message.update(message_thread_id=thread, is_topic_message=True)
            # In a topic, a message that answers nothing answers the topic's opening.
            message["reply_to_message"] = self._topic_opening(chat, thread)
        if reply_to is not None:
            original = self.messages[chat.id, reply_to]
            message["reply_to_message"] = {k: v for k, v in original.items() if k != "reply_to_message"}
        self.messages[chat.id, message["message_id"]] = message
        return message

    def _topic_opening(self, chat: Chat, thread: int) -> Json:
        created = {"name": chat.topics[thread], "icon_color": 7322096}
        creator = {"id": 1, "is_bot": False, "first_name": "Creator"}
        opening = {
            "message_id": thread,
            "from": creator,
            "chat": chat.to_json(),
            "date": 1,
            "message_thread_id": thread,
        }
        return {**opening, "is_topic_message": True, "forum_topic_created": created}  # fmt: skip

    def media(self, photo: bytes | None, document: tuple[str, bytes] | None, voice: bytes | None) -> Json:
        """The file fields of a message."""
        if photo is not None:
            stored = self.store_file("photos", "image.jpg", photo)
            return {"photo": [{**stored, "width": 90, "height": 90}]}
        if document is not None:
            name, data = document
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return {
                "document": {**self.store_file("documents", name, data), "file_name": name, "mime_type": kind}
            }
        if voice is not None:
            stored = self.store_file("voice", "note.oga", voice)
            return {"voice": {**stored, "duration": 1, "mime_type": "audio/ogg"}}
        return {}

    def store_file(self, folder: str, name: str, data: bytes) -> Json:
        number = next(self.numbers)
        suffix = name.rpartition(".")[2]
        file_id = f"file-id-{number}"
        self.files[file_id] = (f"{folder}/file_{number}.{suffix}", data)
        return {"file_id": file_id, "file_unique_id": f"unique-{number}", "file_size": len(data)}

    def add_update(self, kind: str, payload: Json) -> None:
        if kind in (self.allowed_updates or [kind]) and (self.allowed_updates or kind not in _NOT_BY_DEFAULT):
            self.updates.append({"update_id": next(self._update_ids), kind: dict(payload)})
        self.notify()

    def notify(self) -> None:
        """Wake everybody who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self) -> None:
        await self._changed.wait()

    async def wait_for(self, predicate: Callable[[], T], timeout: float = 10.0) -> T:
        """The first truthy value of `predicate`, asked again after every change. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not (value := predicate()):
                await self.change()
            return value

    def texts(self, chat: Chat | User | None = None) -> list[str]:
        """What the bot's messages say now, oldest first, in one chat or in all."""
        return [sent.text for sent in self._shown() if chat is None or sent.chat_id == chat.id]

    def _shown(self) -> Iterable[Sent]:
        return (sent for sent in self.sent if not sent.deleted)
