"""What each REST call does to the world, and how it refuses: https://discord.com/developers/docs/reference"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.peers.discord_forms import CALLBACK_DATA, ApiError, Form, check, check_commands, invalid, read_form
from tests.peers.discord_world import EPOCH, FORUM, TEXT, Channel, Json, Sent, User, World, timestamp

UPLOAD_LIMIT = 10 << 20
_SUPPRESS_EMBEDS = 1 << 2
_FORWARD = 1
_ANSWER_WITHIN = 3.0  # seconds an application has for an interaction
_EMOJI = frozenset(["👀", "👍", "👎", "✅", "❌", "⏳", "🔥", "🎉", "🐈", "🤔"])

Call = Callable[[web.Request], Awaitable[Any]]


class Calls:
    """The calls over one world. A result of None is answered with 204."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.upload_limit = UPLOAD_LIMIT
        self._nonces: dict[str, Json] = {}

    def routes(self) -> dict[tuple[str, str], Call]:
        """By method and path; the name of a function is the name that faults are queued under."""
        channel, message = "/channels/{channel}", "/channels/{channel}/messages/{message}"
        return {
            ("GET", "/users/@me"): self.current_user,
            ("GET", "/oauth2/applications/@me"): self.application,
            ("GET", "/applications/@me"): self.application,
            ("GET", "/gateway"): self.gateway,
            ("GET", "/gateway/bot"): self.gateway_bot,
            ("POST", "/users/@me/channels"): self.create_dm,
            ("GET", "/users/{user}"): self.get_user,
            ("GET", channel): self.get_channel,
            ("GET", channel + "/messages"): self.history,
            ("POST", channel + "/messages"): self.create_message,
            ("POST", channel + "/typing"): self.typing,
            ("POST", channel + "/threads"): self.create_thread,
            ("GET", message): self.get_message,
            ("PATCH", message): self.edit_message,
            ("DELETE", message): self.delete_message,
            ("POST", message + "/threads"): self.thread_from_message,
            ("PUT", message + "/reactions/{emoji}/@me"): self.react,
            ("DELETE", message + "/reactions/{emoji}/@me"): self.take_reaction_back,
            ("GET", "/applications/{application}/commands"): self.get_commands,
            ("PUT", "/applications/{application}/commands"): self.set_commands,
            ("POST", "/interactions/{interaction}/{token}/callback"): self.callback,
        }

    def forget_nonces(self) -> None:
        """The few minutes are over in which a nonce is remembered."""
        self._nonces.clear()

    # The bot itself

    async def current_user(self, request: web.Request) -> Json:
        return {**self.world.bot.to_json(), "verified": True, "mfa_enabled": False, "flags": 0}

    async def application(self, request: web.Request) -> Json:
        owner = {"id": "1", "username": "owner", "discriminator": "0", "avatar": None, "global_name": None}
        named = {
            "id": str(self.world.bot.id),
            "name": "Nano",
            "description": "",
            "icon": None,
            "owner": owner,
        }
        public = {"bot_public": True, "bot_require_code_grant": False}
        return {**named, **public, "verify_key": "00", "team": None, "flags": 0}

    async def gateway(self, request: web.Request) -> Json:
        return {"url": self.world.url.replace("http", "ws", 1) + "/gw"}

    async def gateway_bot(self, request: web.Request) -> Json:
        starts = {"total": 1000, "remaining": 999, "reset_after": 0, "max_concurrency": 1}
        return {**await self.gateway(request), "shards": 1, "session_start_limit": starts}

    async def get_commands(self, request: web.Request) -> list[Json]:
        return self.world.commands

    async def set_commands(self, request: web.Request) -> list[Json]:
        self.world.commands = check_commands(await request.json())
        mine = {"application_id": str(self.world.bot.id), "version": "1"}
        return [{"id": str(self.world.snowflake()), "type": 1, **mine, **c} for c in self.world.commands]

    # Messages

    async def create_message(self, request: web.Request) -> Json:
        channel = self._channel(request)
        form = await read_form(request, "create_message")
        if channel.type == FORUM:
            raise ApiError(400, 50008, "Cannot send messages in a non-text channel")
        nonce = str(form.fields.get("nonce", ""))
        if form.fields.get("enforce_nonce") and nonce in self._nonces:
            return self._nonces[nonce]
        reply_to = self._reply_target(form, channel)
        text = self._content(form.fields)
        if not (
            text or form.files or any(form.fields.get(kind) for kind in ("embeds", "components", "poll"))
        ):
            raise ApiError(400, 50006, "Cannot send an empty message")
        if any(len(data) > self.upload_limit for _, data in form.files):
            raise ApiError(413, 40005, "Request entity too large")
        message = self._publish(channel, text, reply_to, form)
        if nonce:
            self._nonces[nonce] = message
        return message

    def _publish(self, channel: Channel, text: str, reply_to: Json | None, form: Form) -> Json:
        world = self.world
        message = world.new_message(channel, world.bot, text, reply_to=reply_to, files=form.files)
        message["flags"] = form.fields.get("flags", 0)
        self._ping(message, form.fields.get("allowed_mentions"), reply_to)
        if "nonce" in form.fields:
            message["nonce"] = form.fields["nonce"]
        world.sent.append(Sent(message, form.files))
        world.publish("MESSAGE_CREATE", message)
        return message

    def _ping(self, message: Json, allowed: Json | None, reply_to: Json | None) -> None:
        """Who is notified: without `allowed_mentions` everybody whom the text names."""
        parse = ["everyone", "users", "roles"] if allowed is None else allowed.get("parse", [])
        users = [] if allowed is None else allowed.get("users", [])
        if "users" not in parse:
            message["mentions"] = [user for user in message["mentions"] if user["id"] in map(str, users)]
        if "roles" not in parse:
            message["mention_roles"] = []
        named = "@everyone" in message["content"] or "@here" in message["content"]
        message["mention_everyone"] = "everyone" in parse and named
        if reply_to is not None and (allowed is None or allowed.get("replied_user")):
            message["mentions"].append(reply_to["author"])

    def _content(self, fields: Json) -> str:
        return str(fields.get("content") or "").strip()

    def _reply_target(self, form: Form, channel: Channel) -> Json | None:
        reference = form.fields.get("message_reference")
        if reference is None:
            return None
        if reference.get("type") == _FORWARD:
            raise ApiError(400, 50035, "Forwarding is not part of this server")
        message = self.world.messages.get(channel.id, {}).get(int(reference["message_id"]))
        if message is None and reference.get("fail_if_not_exists", True):
            raise invalid("message_reference", "REPLIES_UNKNOWN_MESSAGE", "Unknown message")
        return message

    async def edit_message(self, request: web.Request) -> Json:
        message = self._message(request)
        form = await read_form(request, "edit_message")
        sent = next((sent for sent in self.world.sent if sent.message is message), None)
        if sent is None:
            raise ApiError(403, 50005, "Cannot edit a message authored by another user")
        text = self._content(form.fields) if "content" in form.fields else sent.text
        if not (text or message["attachments"] or form.files):
            raise ApiError(400, 50006, "Cannot send an empty message")
        sent.edits.append((sent.text, asyncio.get_running_loop().time()))
        message.update(content=text, edited_timestamp=timestamp(time.time()))
        if "flags" in form.fields:
            message["flags"] = form.fields["flags"] & _SUPPRESS_EMBEDS
        self.world.publish("MESSAGE_UPDATE", message)
        return message

    async def delete_message(self, request: web.Request) -> None:
        self.world.delete(self._message(request))

    async def get_message(self, request: web.Request) -> Json:
        return self._message(request)

    async def history(self, request: web.Request) -> list[Json]:
        """Newest first; with `after`, those that follow it at once."""
        channel = self._channel(request)
        query = dict(request.query)
        limit = int(query.pop("limit", 50))
        if not 1 <= limit <= 100:
            raise invalid("limit", "NUMBER_TYPE_MAX", "int value should be less than or equal to 100.")
        if query.keys() - {"after", "before", "around"} or len(query) > 1:
            raise ApiError(400, 50035, "Invalid Form Body")
        messages = list(self.world.messages.get(channel.id, {}).values())
        if "after" in query:
            found = [m for m in messages if int(m["id"]) > int(query["after"])][:limit]
        else:
            found = [m for m in messages if "before" not in query or int(m["id"]) < int(query["before"])]
        return found[-limit:][::-1]

    async def typing(self, request: web.Request) -> None:
        self.world.typing.append(self._channel(request).id)

    async def react(self, request: web.Request) -> None:
        message = self._message(request)
        if request.match_info["emoji"] not in _EMOJI:
            raise ApiError(400, 10014, "Unknown Emoji")
        self.world.reactions.setdefault(int(message["id"]), []).append(request.match_info["emoji"])

    async def take_reaction_back(self, request: web.Request) -> None:
        mine = self.world.reactions.get(int(self._message(request)["id"]), [])
        if request.match_info["emoji"] in mine:
            mine.remove(request.match_info["emoji"])

    # Channels and people

    async def get_channel(self, request: web.Request) -> Json:
        return self._channel(request).to_json()

    async def get_user(self, request: web.Request) -> Json:
        return self._user(request.match_info["user"]).to_json()

    async def create_dm(self, request: web.Request) -> Json:
        form = await read_form(request, "create_dm")
        return self.world.dm(self._user(str(form.fields["recipient_id"]))).to_json()

    async def create_thread(self, request: web.Request) -> Json:
        channel = self._channel(request)
        form = await read_form(request, "create_thread")
        assert channel.guild is not None
        return channel.guild.thread(channel, form.fields["name"]).to_json()

    async def thread_from_message(self, request: web.Request) -> Json:
        message = self._message(request)
        channel = self._channel(request)
        form = await read_form(request, "thread_from_message")
        if channel.guild is None or channel.type != TEXT:
            raise ApiError(400, 50024, "Cannot execute action on this channel type")
        if int(message["id"]) in self.world.channels:
            raise ApiError(400, 160004, "A thread has already been created for this message")
        return channel.guild.thread(channel, form.fields["name"], int(message["id"])).to_json()

    # Interactions

    async def callback(self, request: web.Request) -> Json | None:
        interaction = self.world.interactions.get(request.match_info["interaction"])
        if interaction is None or interaction["token"] != request.match_info["token"]:
            raise ApiError(404, 10062, "Unknown interaction")
        if time.time() - _born(interaction["id"]) > _ANSWER_WITHIN:
            raise ApiError(404, 10062, "Unknown interaction")
        if interaction["id"] in self.world.answered:
            raise ApiError(400, 40060, "Interaction has already been acknowledged.")
        form = await read_form(request, "callback")
        if form.fields["type"] not in (4, 5):
            raise invalid("type", "BASE_TYPE_CHOICES", "Value must be one of {4, 5}.")
        data = check(form.fields.get("data", {}), {**CALLBACK_DATA, "flags": "int"}, "data")
        if form.fields["type"] == 4 and not self._content(data):
            raise ApiError(400, 50006, "Cannot send an empty message")
        self.world.answered[interaction["id"]] = form.fields
        if request.query.get("with_response") not in ("1", "true"):
            return None
        return {
            "interaction": {"id": interaction["id"], "type": 2},
            "resource": {"type": form.fields["type"]},
        }

    # Looking things up

    def _channel(self, request: web.Request) -> Channel:
        channel = self.world.channels.get(_number(request.match_info["channel"]))
        if channel is None:
            raise ApiError(404, 10003, "Unknown Channel")
        if channel.refusal is not None:
            raise ApiError(*channel.refusal)
        return channel

    def _message(self, request: web.Request) -> Json:
        found = self.world.messages.get(self._channel(request).id, {})
        message = found.get(_number(request.match_info["message"]))
        if message is None:
            raise ApiError(404, 10008, "Unknown Message")
        return message

    def _user(self, id: str) -> User:
        user = self.world.users.get(_number(id))
        if user is None:
            raise ApiError(404, 10013, "Unknown User")
        return user


def _number(text: str) -> int:
    if not text.isdigit():
        raise ApiError(400, 50035, f'Value "{text}" is not snowflake.')
    return int(text)


def _born(id: str) -> float:
    return ((int(id) >> 22) + EPOCH) / 1000
