"""Discord: https://discord.com/developers/docs, over its gateway with discord.py.

Discord waits for no confirmation: what was said while nanobot was away, or could not be stored, is read from
the history of the chats at the next connection. What is sent carries a nonce, by which Discord shows a part
once, however often it is tried within a few minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from nanobot.channels.base import Capabilities, attempt, contained
from nanobot.channels.dialects import DISCORD_MARKDOWN
from nanobot.channels.discord_config import DiscordConfig
from nanobot.channels.incoming import UNSEEN, Incoming, attachment, described
from nanobot.channels.outgoing import OutgoingPart
from nanobot.channels.platform import Platform, aiohttp_proxy, missed_since, until_first_ends
from nanobot.config.proxies import Proxy, proxy_for
from nanobot.errors import ChannelError, MessageGone
from nanobot.messages import Attachment, InboundMessage, Origin, OutboundMessage, Quoted

log = logging.getLogger(__name__)

# What the gateway tells and who reads it here: the first two after the library, the others instead of it.
EventKind = Literal["READY", "GUILD_CREATE", "MESSAGE_CREATE", "INTERACTION_CREATE"]
Dispatch = tuple[EventKind, Any]
Events = asyncio.Queue[Dispatch]

_WRITTEN = (discord.MessageType.default, discord.MessageType.reply)  # by people

_PORTAL = "https://discord.com/developers/applications"
_CLOSED = {
    4004: f"Discord does not accept the bot token: copy it again from {_PORTAL} (Bot, Reset Token).",
    4013: "Discord does not know the intents of channels.discord.intents: remove that key.",
    4014: "Discord refuses the intents of channels.discord.intents: switch MESSAGE CONTENT INTENT on at "
    f"{_PORTAL} (your application, Bot, Privileged Gateway Intents) and start the gateway again.",
}
_MEANINGS = {  # https://discord.com/developers/docs/topics/opcodes-and-status-codes
    10003: "Discord knows no such channel.",
    40005: "The file is larger than this server takes.",
    50001: "The bot cannot see this channel: give it View Channel there.",
    50007: "This person takes no direct messages from the bot.",
    50013: "The bot may not do that in this channel: give it Send Messages and Attach Files there.",
}


class DiscordChannel(Platform[discord.Client]):
    """A bot, in direct messages, in the channels of servers, and in their threads and forums."""

    title = "Discord"
    capabilities = Capabilities(streaming=True, typing=True)
    dialect = DISCORD_MARKDOWN
    upload_limit = 10 * 1024 * 1024  # where no server's boosts allow more
    caption_limit = DISCORD_MARKDOWN.limit
    config: DiscordConfig

    async def run(self) -> None:
        events = Events()
        Route.BASE = self.config.api_base.rstrip("/") or Route.BASE  # of the program, not of a client
        own = self.config.proxy
        proxy = Proxy(own, "channels.discord.proxy") if own else proxy_for(Route.BASE)
        client = _new_client(self.config, events, proxy)
        try:
            with _channel_errors(proxy):
                await client.login(self.config.token)
                self.connection = client
                await until_first_ends(client.connect(reconnect=False), self._receive(events))
        finally:
            await self.ended()
            await client.close()

    async def _receive(self, events: Events) -> None:
        """Take events in order: what a chat said before the connection comes before what it says now."""
        seen: dict[str, float] = {}

        async def found(kind: EventKind, data: Any) -> list[Dispatch]:
            if kind == "READY":
                await self.started()
                seen.update(self.host.seen)  # before this connection, for all that it catches up
                return await self._missed(seen, await self._private_chats())
            if kind == "GUILD_CREATE":
                rooms = [*data.get("channels", ()), *data.get("threads", ())]
                return await self._missed(seen, rooms, guild_id=data["id"])
            return [(kind, data)]

        async def more(_: int) -> list[Dispatch]:
            return [one for _ in range(events.qsize()) for one in await found(*events.get_nowait())]

        while True:
            async for event, accepted in self.receive(await found(*await events.get()), more):
                if accepted and event[0] == "INTERACTION_CREATE":
                    await attempt(self.name, "confirm a command", self._confirm(event[1]))

    async def _private_chats(self) -> list[Any]:
        """Discord does not list direct messages: we know them."""
        chats, known = list[Any](), self.host.seen
        for chat_id in sorted(filter(None, known), key=known.__getitem__)[-50:]:  # those used last
            with contextlib.suppress(discord.HTTPException):  # it is gone
                chats.append(await self.client.http.get_channel(chat_id))
        return [chat for chat in chats if chat["type"] == discord.ChannelType.private.value]

    async def _missed(self, seen: dict[str, float], rooms: list[Any], **place: str) -> list[Dispatch]:
        """What these chats said since their last message that is safe, oldest first."""
        found: list[Any] = []
        for room in rooms:
            seconds = missed_since(seen, room.get("parent_id") or room["id"], room["id"])
            since = (int(seconds * 1000) - discord.utils.DISCORD_EPOCH) << 22  # the first id of that moment
            if _number(room, "last_message_id") > since:
                with contextlib.suppress(discord.HTTPException):  # the bot may not read its history
                    page = await self.client.http.logs_from(room["id"], 100)  # the newest
                    found += [{**message, **place} for message in page if _number(message) > since]
        return [("MESSAGE_CREATE", message) for message in sorted(found, key=_number)]

    def parse(self, event: Dispatch) -> Incoming | None:
        (kind, data), state = event, self.client._connection
        if kind == "INTERACTION_CREATE":  # we offer only commands, so there are no others
            used = discord.Interaction(data=data, state=state)
            return _incoming(used, used.user, _command(used), addressed=True)
        channel: Any = state._get_guild_channel(data)[0]
        message = discord.Message(state=state, channel=channel, data=data)
        return _read_message(message, self.client.user)

    async def _confirm(self, data: Any) -> None:
        """Show a command in its chat: Discord wants an answer within three seconds."""
        used = discord.Interaction(data=data, state=self.client._connection)
        with _channel_errors():
            await used.response.send_message(_command(used), suppress_embeds=True)

    async def download(self, ref: str) -> bytes:
        with _channel_errors():
            return await self.client.http.get_from_cdn(ref)

    async def react(self, inbound: InboundMessage) -> None:
        if emoji := self.config.react_emoji:
            chat = self._chat(inbound.chat_id, inbound.metadata)
            with _channel_errors():
                await chat.get_partial_message(int(inbound.metadata["message_id"])).add_reaction(emoji)

    async def show_typing(self, inbound: InboundMessage) -> None:
        with _channel_errors():
            await self._chat(inbound.chat_id, inbound.metadata).typing()

    def upload_limit_of(self, message: OutboundMessage) -> int:
        guild = getattr(self.client.get_channel(self._chat(message.chat_id, {}).id), "guild", None)
        return guild.filesize_limit if guild else self.upload_limit

    async def send_part(self, part: OutgoingPart) -> str:
        chat = self._chat(part.chat_id, part.metadata)
        more: dict[str, Any] = {}
        if part.quotes and self.config.reply_to_message and "message_id" in part.metadata:
            asked = chat.get_partial_message(int(part.metadata["message_id"]))
            more["reference"] = asked.to_reference(fail_if_not_exists=False)
        if part.file is not None:  # under the key of a text, it is another message
            more["file"] = discord.File(io.BytesIO(part.data), part.file.name)
        nonce = hashlib.sha256(f"{part.key}{'file' in more}".encode()).hexdigest()[:25]
        with _channel_errors():
            sent = await chat.send(part.text or None, nonce=nonce, suppress_embeds=True, **more)
            if sent.content != part.text.strip():  # it was begun before a crash, and this is the whole of it
                await sent.edit(content=part.text)
        return str(sent.id)

    async def edit_part(self, part: OutgoingPart, message_id: str) -> None:
        chat = self._chat(part.chat_id, part.metadata)
        with _channel_errors():
            await chat.get_partial_message(int(message_id)).edit(content=part.text)

    def _chat(self, chat_id: str, metadata: Mapping[str, str]) -> discord.PartialMessageable:
        """A channel, a direct message, or a thread, which is a channel of its own."""
        room = metadata.get("thread", chat_id)
        if not room.isdigit():
            raise ChannelError(f"{room} is no id of Discord: those are numbers.", permanent=True)
        return self.client.get_partial_messageable(int(room))

    async def show_menu(self, commands: list[tuple[str, str]]) -> None:
        option = {"type": 3, "name": "text", "description": "What stands behind the command"}
        menu = [{"name": name, "description": text[:100], "options": [option]} for name, text in commands]
        with _channel_errors():
            await self.client.http.bulk_upsert_global_commands(self.client.application_id or 0, menu)


def _number(thing: Any, key: str = "id") -> int:
    return int(thing[key]) if str(thing.get(key)).isdecimal() else 0


def _read_message(message: discord.Message, me: Any) -> Incoming | None:
    """What somebody wrote, or None. Bots are never answered, or two of them might talk for ever."""
    if message.author.bot or message.webhook_id or message.type not in _WRITTEN:
        return None
    role = message.guild and message.guild.self_role  # made for the bot
    names = f"<@!?{me.id}>|{role.mention if role else '$^'}"
    message.content, named = re.subn(f"(?:{names}) ?", "", message.content)
    text, files = _words(message), [_file(one, "author") for one in message.attachments]
    if message.id == message.channel.id and isinstance(message.channel, discord.Thread):
        text = f"{message.channel.name}\n{text}".strip()  # the title of a post is half of its question
    quoted = [Quoted("preview", _card(one), one.provider.name or "") for one in message.embeds]
    reference = message.reference or discord.MessageReference(message_id=0, channel_id=0)
    for snapshot in message.message_snapshots:
        place = getattr(message._state.get_channel(reference.channel_id), "name", "")
        quoted.append(Quoted("forward", _theirs(snapshot), place and f"#{place}"))
        files += [_file(one, "forward") for one in snapshot.attachments]
    original = reference.resolved
    if isinstance(original, discord.Message):
        own = original.author.id == me.id
        author = "" if original.message_snapshots else original.author.display_name
        quoted.append(Quoted("reply", _theirs(original), author, own))
        files += [_file(one, "quote") for one in original.attachments]
        named = named or own
    elif message.type is discord.MessageType.reply:
        quoted.append(Quoted("reply", UNSEEN))
    return _incoming(
        message, message.author, text, addressed=bool(named), quoted=tuple(quoted), attachments=tuple(files)
    )


def _file(one: discord.Attachment, origin: Origin) -> Attachment:
    return attachment(one.url, one.filename, one.content_type, size=one.size, origin=origin)


def _words(message: discord.Message | discord.MessageSnapshot) -> str:
    """What a message says, also with stickers and polls; snapshots have less of it."""
    lines = [getattr(message, "clean_content", message.content).strip()]
    lines += [described("sticker", sticker.name) for sticker in message.stickers]
    if asked := getattr(message, "poll", None):
        lines.append(described("poll", asked.question, *(answer.text for answer in asked.answers)))
    return "\n".join(filter(None, lines))


def _theirs(message: discord.Message | discord.MessageSnapshot) -> str:
    """What somebody else's message says, with its cards; without words, the names of its files."""
    forwarded = map(_theirs, getattr(message, "message_snapshots", ()))
    said = "\n".join(filter(None, [_words(message), *map(_card, message.embeds), *forwarded]))
    return said or "\n".join(described(file.filename) for file in message.attachments) or UNSEEN


def _card(embed: discord.Embed) -> str:
    title = f"[{embed.title or embed.url}]({embed.url})" if embed.url else embed.title
    fields = (f"{field.name}: {field.value}" for field in embed.fields)
    return "\n".join(filter(None, [title, embed.description, *fields]))


def _command(interaction: discord.Interaction) -> str:
    """What was picked from Discord's menu, as if it had been typed."""
    data: Any = interaction.data
    return " ".join([f"/{data['name']}", *(str(option["value"]) for option in data.get("options", ()))])


def _incoming(source: Any, user: discord.User | discord.Member, text: str, **more: Any) -> Incoming:
    """Of a message or a command. A thread belongs to its channel, a post to its forum."""
    thread = isinstance(source.channel, discord.Thread)
    return Incoming(
        chat_id=str(source.channel.parent_id if thread else source.channel.id),
        message_id=str(source.id),
        sender_id=str(user.id),
        text=text,
        sender_names=(user.name,) if user.discriminator == "0" else (),  # older names are not unique
        sender_name=user.display_name,
        sent_at=source.created_at.timestamp(),
        thread=str(source.channel.id) if thread else "",
        is_group=not isinstance(source.channel, discord.DMChannel),
        **more,
    )


def _new_client(config: DiscordConfig, events: Events, proxy: Proxy | None) -> discord.Client:
    """The library's connection, which puts what is to be read here into `events`, as Discord sent it: one
    message that the library cannot read would end the connection.
    """
    logging.getLogger("discord").setLevel(logging.WARNING)  # below, it logs what people write
    discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(config.gateway_url)
    intents = discord.Intents._from_value(config.intents)
    if not intents.message_content and config.group_policy != "mention":
        log.warning("channels.discord.intents lacks Message Content (32768): only mentions can be read.")
    client = discord.Client(
        intents=intents,
        **aiohttp_proxy(proxy),
        allowed_mentions=discord.AllowedMentions(everyone=False, users=False, roles=False, replied_user=True),
        max_ratelimit_timeout=30.0,  # seconds; longer ones wait in the outbox
        max_messages=None,
        chunk_guilds_at_startup=False,
        member_cache_flags=discord.MemberCacheFlags.none(),
    )
    parsers: dict[str, Callable[[Any], None]] = client._connection.parsers
    ready, guild = parsers["READY"], parsers["GUILD_CREATE"]

    def take(kind: EventKind, data: Any) -> None:
        if kind == "READY":
            ready(data)
        elif kind == "GUILD_CREATE":
            with contextlib.suppress(ChannelError), contained("discord"):  # one that is odd stops no other
                guild(data)
        events.put_nowait((kind, data))

    for kind in get_args(EventKind):
        parsers[kind] = functools.partial(take, kind)
    return client


@contextlib.contextmanager
def _channel_errors(proxy: Proxy | None = None) -> Iterator[None]:
    """Turns the library's errors into ChannelError; with the proxy on the way, if there is one."""
    try:
        yield
    except discord.LoginFailure as error:
        raise ChannelError(_CLOSED[4004], permanent=True) from error
    except discord.ConnectionClosed as error:
        unknown = f"Discord closed the connection ({error.code})."
        raise ChannelError(_CLOSED.get(error.code, unknown), permanent=error.code in _CLOSED) from error
    except (discord.DiscordException, aiohttp.ClientError, OSError, TimeoutError) as error:
        match error:
            case discord.RateLimited() | discord.HTTPException(status=429):
                seconds = getattr(error, "retry_after", 60.0)
                raise ChannelError("Discord asks to wait.", retry_after=seconds) from error
            case discord.NotFound(code=10008) | discord.Forbidden(code=50005):
                raise MessageGone("The message is not there any more.", permanent=True) from error
            case discord.HTTPException() if error.status < 500:
                reason = _MEANINGS.get(error.code) or f"Discord refused it: {error.text or error.status}."
                raise ChannelError(reason, permanent=True) from error
        way = f" through the proxy {proxy}; check that proxy" if proxy else ""
        raise ChannelError(
            f"Discord cannot be reached{way} ({str(error) or type(error).__name__})."
        ) from error
