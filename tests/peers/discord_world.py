"""What Discord knows: users, guilds, channels, threads, messages, files, and the events that tell of them.

`World`, `Guild` and `User` are also the hands of a test: they write, edit, forward and use commands as
people do. Shapes are those of https://discord.com/developers/docs/resources/message and its neighbours.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")
Json = dict[str, Any]

EPOCH = 1_420_070_400_000  # the first millisecond of 2015, where ids begin
GUILDS, GUILD_MESSAGES, DIRECT_MESSAGES = 1 << 0, 1 << 9, 1 << 12
GUILD_MEMBERS, GUILD_PRESENCES, MESSAGE_CONTENT = 1 << 1, 1 << 8, 1 << 15
TEXT, DM, PUBLIC_THREAD, FORUM = 0, 1, 11, 15
DEFAULT, USER_JOIN, REPLY = 0, 7, 19
ADMINISTRATOR = "8"
_MENTION = re.compile(r"<@!?(\d+)>")
_ROLE_MENTION = re.compile(r"<@&(\d+)>")


@dataclass(frozen=True)
class Event:
    """A dispatch. `intent`: who gets it. `personal`: its words reach a bot without Message Content."""

    name: str
    data: Json
    intent: int = 0
    personal: bool = True


@dataclass
class Channel:
    """A text channel, a direct message, a thread or a forum. `refusal`: the error of every call to it."""

    id: int
    type: int
    name: str = ""
    guild: Guild | None = None
    parent: Channel | None = None
    recipient: User | None = None
    last_message_id: int | None = None
    refusal: tuple[int, int, str] | None = None

    def close(self, status: int = 403, code: int = 50001, message: str = "Missing Access") -> None:
        self.refusal = (status, code, message)

    def to_json(self) -> Json:
        last = str(self.last_message_id) if self.last_message_id else None
        shown: Json = {"id": str(self.id), "type": self.type, "last_message_id": last, "flags": 0}
        if self.recipient is not None:
            return {**shown, "recipients": [self.recipient.to_json()]}
        assert self.guild is not None
        shown.update(guild_id=str(self.guild.id), name=self.name, parent_id=None, position=0)
        if self.parent is None:
            return {**shown, "permission_overwrites": [], "nsfw": False, "available_tags": []}
        stamp = {"archived": False, "auto_archive_duration": 1440, "locked": False}
        shown.update(parent_id=str(self.parent.id), owner_id=str(self.guild.owner.id), message_count=0)
        return {
            **shown,
            "member_count": 1,
            "thread_metadata": {**stamp, "archive_timestamp": timestamp(time.time())},
        }


@dataclass
class Guild:
    """A server with the bot in it. `bot_role` is the role that Discord makes for a bot."""

    world: World
    id: int
    name: str
    owner: User
    bot_role: int
    premium_tier: int = 0
    channels: list[Channel] = field(default_factory=list)

    def channel(self, name: str = "general", *, type: int = TEXT) -> Channel:
        channel = Channel(self.world.snowflake(), type, name, self)
        return self._added(channel, "CHANNEL_CREATE")

    def thread(self, parent: Channel, name: str = "a thread", id: int = 0) -> Channel:
        """A public thread; one that starts at a message, and a forum post, have that message's id."""
        thread = Channel(id or self.world.snowflake(), PUBLIC_THREAD, name, self, parent)
        return self._added(thread, "THREAD_CREATE")

    def _added(self, channel: Channel, event: str) -> Channel:
        self.channels.append(channel)
        self.world.channels[channel.id] = channel
        self.world.emit(Event(event, channel.to_json(), GUILDS))
        return channel

    def to_json(self) -> Json:
        everyone = {"id": str(self.id), "name": "@everyone", "permissions": ADMINISTRATOR, "position": 0}
        tags = {"bot_id": str(self.world.bot.id)}
        own = {"id": str(self.bot_role), "name": "Nano", "permissions": ADMINISTRATOR, "managed": True}
        flat = {"color": 0, "hoist": False, "mentionable": False, "flags": 0}
        shown = [channel.to_json() for channel in self.channels]
        return {
            "id": str(self.id),
            "name": self.name,
            "owner_id": str(self.owner.id),
            "roles": [{**flat, **everyone}, {**flat, **own, "position": 1, "tags": tags}],
            "emojis": [],
            "stickers": [],
            "features": [],
            "member_count": 2,
            "premium_tier": self.premium_tier,
            "members": [{"user": self.world.bot.to_json(), **self.member(self.world.bot)}],
            "channels": [channel for channel in shown if channel["type"] != PUBLIC_THREAD],
            "threads": [channel for channel in shown if channel["type"] == PUBLIC_THREAD],
            "presences": [],
            "voice_states": [],
        }

    def member(self, user: User) -> Json:
        roles = [str(self.bot_role)] if user is self.world.bot else []
        return {"roles": roles, "joined_at": timestamp(0), "deaf": False, "mute": False, "flags": 0}


@dataclass
class User:
    """Somebody, or a bot. Every method is something that person does."""

    world: World
    id: int
    username: str
    name: str = ""
    bot: bool = False

    def to_json(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.username,
            "global_name": self.name or None,
            "discriminator": "0",
            "avatar": None,
            "bot": self.bot,
        }

    @property
    def dm(self) -> Channel:
        """The direct message channel with the bot."""
        return self.world.dm(self)

    def send(
        self,
        text: str = "",
        channel: Channel | None = None,
        *,
        reply_to: Json | None = None,
        files: Sequence[tuple[str, bytes]] = (),
        **extra: Any,
    ) -> Json:
        """Write into a channel, else to the bot; returns the message. `extra` overrides fields of it."""
        where = channel or self.dm
        message = self.world.new_message(where, self, text, reply_to=reply_to, files=files)
        message.update(extra)
        self.world.publish("MESSAGE_CREATE", message)
        return message

    def forward(self, original: Json, channel: Channel | None = None) -> Json:
        """Forward a message; whose it was is not told."""
        kept = ("type", "content", "embeds", "attachments", "timestamp", "edited_timestamp", "flags")
        snapshot = {"message": {name: original[name] for name in kept}}
        reference = {"type": 1, "message_id": original["id"], "channel_id": original["channel_id"]}
        return self.send("", channel, message_snapshots=[snapshot], message_reference=reference)

    def edit(self, message: Json, text: str) -> None:
        message.update(content=text, edited_timestamp=timestamp(time.time()))
        self.world.publish("MESSAGE_UPDATE", message)

    def delete(self, message: Json) -> None:
        self.world.delete(message)

    def command(self, name: str, channel: Channel | None = None, **options: str) -> str:
        """Use a slash command; returns the interaction's id."""
        return self.world.interact(self, channel or self.dm, name, options)


@dataclass
class Sent:
    """A message of the bot. `edits` holds (text before, loop time of the edit)."""

    message: Json
    files: list[tuple[str, bytes]] = field(default_factory=list)
    edits: list[tuple[str, float]] = field(default_factory=list)
    deleted: bool = False

    @property
    def text(self) -> str:
        return str(self.message["content"])

    @property
    def reply_to(self) -> str | None:
        reference = self.message.get("message_reference")
        return reference and reference["message_id"]

    def to_json(self) -> Json:
        sizes = [[name, len(data)] for name, data in self.files]
        edits = [before for before, _ in self.edits]
        return {**self.message, "files": sizes, "edits": edits, "deleted": self.deleted}


class World:
    """The whole platform as one bot sees it. Nothing is persisted."""

    def __init__(self) -> None:
        self.url = ""
        self.users: dict[int, User] = {}
        self.guilds: dict[int, Guild] = {}
        self.channels: dict[int, Channel] = {}
        self.messages: dict[int, dict[int, Json]] = {}
        self.files: dict[str, bytes] = {}
        self.sent: list[Sent] = []
        self.typing: list[int] = []
        self.reactions: dict[int, list[str]] = {}
        self.commands: list[Json] = []
        self.interactions: dict[str, Json] = {}
        self.answered: dict[str, Json] = {}
        self.listeners: list[Callable[[Event], None]] = []
        self._last_id = 0
        self._changed = asyncio.Event()
        self.bot = self.user("nano_bot", bot=True)

    # People and places

    def user(self, username: str, name: str = "", *, bot: bool = False, id: int = 0) -> User:
        user = User(self, id or self.snowflake(), username, name, bot)
        self.users[user.id] = user
        return user

    def guild(self, name: str = "Home") -> Guild:
        guild = Guild(self, self.snowflake(), name, self.user("owner"), self.snowflake())
        self.guilds[guild.id] = guild
        self.emit(Event("GUILD_CREATE", guild.to_json(), GUILDS))
        return guild

    def dm(self, user: User) -> Channel:
        for channel in self.channels.values():
            if channel.recipient is user:
                return channel
        channel = Channel(self.snowflake(), DM, recipient=user)
        self.channels[channel.id] = channel
        return channel

    def snowflake(self) -> int:
        """A new id: milliseconds since 2015 in its upper bits, always greater than the last."""
        self._last_id = max(self._last_id + 1, (int(time.time() * 1000) - EPOCH) << 22)
        return self._last_id

    def pass_time(self, seconds: int) -> None:
        """Let the ids to come be those of so much later: a test need not wait."""
        self._last_id += seconds * 1000 << 22

    # Messages

    def new_message(
        self,
        channel: Channel,
        author: User,
        text: str,
        *,
        reply_to: Json | None = None,
        files: Sequence[tuple[str, bytes]] = (),
    ) -> Json:
        """Store a message in a channel; nobody is told yet."""
        number = self.snowflake()
        mentioned = [self.users[int(id)] for id in _MENTION.findall(text) if int(id) in self.users]
        message: Json = {
            "id": str(number),
            "channel_id": str(channel.id),
            "author": author.to_json(),
            "content": text,
            "timestamp": timestamp(time.time()),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [user.to_json() for user in mentioned],
            "mention_roles": _ROLE_MENTION.findall(text),
            "attachments": [self.attach(channel, name, data) for name, data in files],
            "embeds": [],
            "components": [],
            "pinned": False,
            "flags": 0,
            "type": DEFAULT,
        }
        if reply_to is not None:
            place = {"message_id": reply_to["id"], "channel_id": reply_to["channel_id"]}
            gone = int(reply_to["id"]) not in self.messages.get(int(reply_to["channel_id"]), {})
            message.update(type=REPLY, message_reference={"type": 0, **place})
            message["referenced_message"] = None if gone else _without_reference(reply_to)
        self.messages.setdefault(channel.id, {})[number] = message
        channel.last_message_id = number
        return message

    def attach(self, channel: Channel, name: str, data: bytes) -> Json:
        """Store a file on the CDN. Its address is signed and expires."""
        number = self.snowflake()
        safe = re.sub(r"[^\w.-]", "_", name.rpartition("/")[2])
        path = f"attachments/{channel.id}/{number}/{safe}"
        self.files[path] = data
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        url = f"{self.url}/{path}?ex=7fffffff&is=1&hm={signature(path)}"
        described = {"id": str(number), "filename": name, "size": len(data), "content_type": kind}
        return {**described, "url": url, "proxy_url": url}

    def publish(self, name: str, message: Json) -> None:
        """Tell of a message, with the fields that only events have."""
        channel = self.channels[int(message["channel_id"])]
        author = self.users.get(int(message["author"]["id"]))
        data = dict(message)
        if channel.guild is not None:
            data["guild_id"] = str(channel.guild.id)
            if author is not None and "webhook_id" not in message:
                data["member"] = channel.guild.member(author)
            data["mentions"] = [
                {**user, "member": channel.guild.member(self.bot)} for user in data["mentions"]
            ]
        mine = str(self.bot.id)
        named = mine in [user["id"] for user in data["mentions"]]
        personal = channel.guild is None or named or message["author"]["id"] == mine
        intent = DIRECT_MESSAGES if channel.guild is None else GUILD_MESSAGES
        self.emit(Event(name, data, intent, personal))

    def delete(self, message: Json) -> None:
        channel = self.channels[int(message["channel_id"])]
        del self.messages[channel.id][int(message["id"])]
        for sent in self.sent:
            sent.deleted = sent.deleted or sent.message is message
        gone: Json = {"id": message["id"], "channel_id": message["channel_id"]}
        if channel.guild is not None:
            gone["guild_id"] = str(channel.guild.id)
        self.emit(Event("MESSAGE_DELETE", gone, GUILD_MESSAGES if channel.guild else DIRECT_MESSAGES))

    def interact(self, user: User, channel: Channel, name: str, options: dict[str, str]) -> str:
        number = str(self.snowflake())
        given = [{"name": key, "type": 3, "value": value} for key, value in options.items()]
        interaction: Json = {
            "id": number,
            "application_id": str(self.bot.id),
            "type": 2,
            "token": f"interaction-{number}",
            "version": 1,
            "data": {"id": "1", "name": name, "type": 1, "options": given},
            "channel_id": str(channel.id),
            "channel": channel.to_json(),
            "locale": "en-US",
            "app_permissions": ADMINISTRATOR,
            "entitlements": [],
            "authorizing_integration_owners": {"0": str(channel.guild.id) if channel.guild else "0"},
            "context": 0 if channel.guild else 1,
            "attachment_size_limit": 10 << 20,
        }
        if channel.guild is None:
            interaction["user"] = user.to_json()
        else:
            member = {**channel.guild.member(user), "user": user.to_json(), "permissions": ADMINISTRATOR}
            interaction.update(guild_id=str(channel.guild.id), member=member)
        self.interactions[number] = interaction
        self.emit(Event("INTERACTION_CREATE", interaction))
        return number

    # What happens, and who waits for it

    def emit(self, event: Event) -> None:
        """Send an event, any a test likes, to every session that may have it."""
        for listener in self.listeners:
            listener(event)
        self.notify()

    def notify(self) -> None:
        """Wake everybody who waits for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, predicate: Callable[[], T], timeout: float = 10.0) -> T:
        """The first truthy value of `predicate`, asked again after every change. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not (value := predicate()):
                await self._changed.wait()
            return value

    def texts(self, channel: Channel | None = None) -> list[str]:
        """What the bot's messages say now, oldest first, in one channel or in all."""
        shown = [sent for sent in self.sent if not sent.deleted]
        return [s.text for s in shown if channel is None or s.message["channel_id"] == str(channel.id)]


def timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def signature(path: str) -> str:
    """What the address of a file carries, so that nobody can guess addresses."""
    return f"{hash(path) & 0xFFFFFFFF:08x}"


def _without_reference(message: Json) -> Json:
    return {name: value for name, value in message.items() if name != "referenced_message"}
