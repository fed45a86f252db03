"""What each Bot API method does to the world, and how it refuses."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from tests.peers.telegram_html import Entity, MarkupError, parse_html, utf16
from tests.peers.telegram_http import Upload
from tests.peers.telegram_world import Chat, Json, Sent, World

TEXT_LIMIT, CAPTION_LIMIT = 4096, 1024
SOURCE_LIMIT = 32_768
UPLOAD_LIMIT, PHOTO_LIMIT, DOWNLOAD_LIMIT = 50 << 20, 10 << 20, 20 << 20
_ACTIONS = """
typing upload_photo record_video upload_video record_voice upload_voice upload_document choose_sticker
find_location record_video_note upload_video_note
"""
_REACTIONS = """
👍 👎 ❤ 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡 🥱 🥴 😍 🐳 ❤‍🔥 🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨
😐 🍓 🍾 💋 🖕 😈 😴 😭 🤓 👻 👨‍💻 👀 🎃 🙈 😇 😨 🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿 🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾
🤷‍♂ 🤷 🤷‍♀ 😡
"""
ACTIONS = frozenset(_ACTIONS.split())
REACTIONS = frozenset(_REACTIONS.split())
_IMAGE = re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP|BM", re.DOTALL)
_NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same "
    "as a current content and reply markup of the message"
)


class ApiError(Exception):
    """An answer with `ok: false`."""

    def __init__(self, code: int, description: str, parameters: Json | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.parameters = parameters or {}


def bad(description: str) -> ApiError:
    return ApiError(400, f"Bad Request: {description}")


class Methods:
    """The methods by their lower-case names, over one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._poll = 0
        self._last_edit: dict[int, float] = {}

    async def call(self, method: str, parameters: Json) -> Any:
        """The `result` of a call. Raises ApiError."""
        if method == "getUpdates":
            return await self._get_updates(parameters)
        media = re.fullmatch(r"send(Photo|Document|Voice|Audio|Video)", method)
        if media:
            result = self._send_media(media[1].lower(), parameters)
        else:
            result = getattr(self, "_" + re.sub("([A-Z])", r"_\1", method).lower())(parameters)
        self.world.notify()
        return result

    # Updates

    async def _get_updates(self, parameters: Json) -> list[Json]:
        world = self.world
        if world.webhook_url:
            raise ApiError(409, "Conflict: can't use getUpdates method while webhook is active; "
                                "use deleteWebhook to delete the webhook first")  # fmt: skip
        self._poll += 1
        mine = self._poll
        world.notify()  # ends a poll that is already waiting
        if "allowed_updates" in parameters:
            world.allowed_updates = parameters["allowed_updates"]
        self._confirm(parameters.get("offset", 0))
        limit = min(100, max(1, parameters.get("limit", 100)))
        deadline = asyncio.get_running_loop().time() + min(50, parameters.get("timeout", 0))
        while not world.updates:
            try:
                async with asyncio.timeout_at(deadline):
                    await world.change()
            except TimeoutError:
                break
            if mine != self._poll:
                raise ApiError(409, "Conflict: terminated by other getUpdates request; "
                                    "make sure that only one bot instance is running")  # fmt: skip
        return world.updates[:limit]

    def _confirm(self, offset: int) -> None:
        """An offset confirms everything below it; a negative one keeps that many of the newest."""
        updates = self.world.updates
        kept = updates[offset:] if offset < 0 else [u for u in updates if u["update_id"] >= offset]
        self.world.updates = kept

    def _delete_webhook(self, parameters: Json) -> bool:
        self.world.webhook_url = ""
        if parameters.get("drop_pending_updates"):
            self.world.updates = []
        return True

    def _get_webhook_info(self, parameters: Json) -> Json:
        waiting = len(self.world.updates)
        return {
            "url": self.world.webhook_url,
            "has_custom_certificate": False,
            "pending_update_count": waiting,
        }

    # The bot itself

    def _get_me(self, parameters: Json) -> Json:
        abilities = {
            "can_join_groups": True,
            "can_read_all_group_messages": True,
            "supports_inline_queries": False,
        }
        return {**self.world.bot, **abilities}

    def _set_my_commands(self, parameters: Json) -> bool:
        commands = parameters["commands"]
        for command in commands:
            named = re.fullmatch(r"[a-z0-9_]{1,32}", command.get("command", ""))
            if not named or not 1 <= len(command.get("description", "")) <= 256:
                raise bad("BOT_COMMAND_INVALID")
        if len(commands) > 100:
            raise bad("BOT_COMMANDS_TOO_MUCH")
        self.world.commands[_scope(parameters)] = commands
        return True

    def _get_my_commands(self, parameters: Json) -> list[Json]:
        return self.world.commands.get(_scope(parameters), [])

    def _delete_my_commands(self, parameters: Json) -> bool:
        self.world.commands.pop(_scope(parameters), None)
        return True

    # Messages

    def _send_message(self, parameters: Json) -> Json:
        chat = self._target(parameters)
        reply_to = self._reply_target(parameters, chat)
        text, entities = _formatted(parameters, "text", TEXT_LIMIT, "message is too long")
        if not text:
            raise bad("message text is empty")
        return self._publish(parameters, chat, reply_to, Sent(0, chat.id, "text", text, entities))

    def _send_media(self, kind: str, parameters: Json) -> Json:
        chat = self._target(parameters)
        reply_to = self._reply_target(parameters, chat)
        text, entities = _formatted(parameters, "caption", CAPTION_LIMIT, "message caption is too long")
        upload = self._upload(parameters[kind], kind)
        sent = Sent(0, chat.id, kind, text, entities, file_name=upload.name, file_data=upload.data)
        return self._publish(parameters, chat, reply_to, sent)

    def _publish(self, parameters: Json, chat: Chat, reply_to: int | None, sent: Sent) -> Json:
        sent.thread_id = parameters.get("message_thread_id")
        sent.markup = parameters.get("reply_markup")
        sent.reply_to = reply_to
        message = self.world.new_message(chat, self.world.bot, sent.thread_id, reply_to)
        sent.message_id = message["message_id"]
        message.update(_content(sent))
        if sent.kind != "text":
            stored = self.world.store_file(sent.kind, sent.file_name, sent.file_data)
            message.update(_media_fields(sent, stored))
        self.world.sent.append(sent)
        return message

    def _edit_message_text(self, parameters: Json) -> Json:
        chat = self._chat(parameters.get("chat_id", 0))
        text, entities = _formatted(parameters, "text", TEXT_LIMIT, "message is too long")
        if not text:
            raise bad("message text is empty")
        sent = self._own(chat, parameters.get("message_id", 0), "edit")
        markup = parameters.get("reply_markup")
        if (text, entities, markup) == (sent.text, sent.entities, sent.markup):
            raise bad(_NOT_MODIFIED)
        now = self._edit_allowed(chat)
        sent.edits.append((sent.text, now))
        sent.text, sent.entities, sent.markup = text, entities, markup
        message = self.world.messages[chat.id, sent.message_id]
        message.pop("entities", None)
        message.update(_content(sent), edit_date=message["date"])
        return message

    def _edit_allowed(self, chat: Chat) -> float:
        now = asyncio.get_running_loop().time()
        wait = self._last_edit.get(chat.id, float("-inf")) + self.world.edit_interval - now
        if wait > 0:
            seconds = max(1, round(wait))
            raise ApiError(429, f"Too Many Requests: retry after {seconds}", {"retry_after": seconds})
        self._last_edit[chat.id] = now
        return now

    def _delete_message(self, parameters: Json) -> bool:
        chat = self._chat(parameters["chat_id"])
        sent = self._own(chat, parameters["message_id"], "delete")
        sent.deleted = True
        del self.world.messages[chat.id, sent.message_id]
        return True

    def _send_chat_action(self, parameters: Json) -> bool:
        chat = self._target(parameters)
        if parameters["action"] not in ACTIONS:
            raise bad("wrong parameter action in request")
        self.world.actions.append((chat.id, parameters.get("message_thread_id"), parameters["action"]))
        return True

    def _set_message_reaction(self, parameters: Json) -> bool:
        key = (self._chat(parameters["chat_id"]).id, parameters["message_id"])
        if key not in self.world.messages:
            raise bad("message to react not found")
        emoji = [reaction.get("emoji", "") for reaction in parameters.get("reaction", [])]
        if len(emoji) > 1 or not REACTIONS.issuperset(emoji):
            raise bad("REACTION_INVALID")
        self.world.reactions[key] = emoji
        return True

    def _answer_callback_query(self, parameters: Json) -> bool:
        query = parameters["callback_query_id"]
        if query not in self.world.open_queries:
            raise bad("query is too old and response timeout expired or query ID is invalid")
        self.world.open_queries.discard(query)
        self.world.answered_queries[query] = parameters.get("text", "")
        return True

    def _get_file(self, parameters: Json) -> Json:
        file_id = parameters["file_id"]
        if file_id not in self.world.files:
            raise bad("invalid file_id")
        path, data = self.world.files[file_id]
        if len(data) > DOWNLOAD_LIMIT:
            raise bad("file is too big")
        unique = file_id.replace("file-id", "unique")
        return {"file_id": file_id, "file_unique_id": unique, "file_size": len(data), "file_path": path}

    def _get_chat(self, parameters: Json) -> Json:
        chat = self._chat(parameters["chat_id"])
        return {**chat.to_json(), "accent_color_id": 0, "max_reaction_count": 11, "accepted_gift_types": {
            "unlimited_gifts": False, "limited_gifts": False, "unique_gifts": False,
            "premium_subscription": False, "gifts_from_channels": False,
        }}  # fmt: skip

    # Looking things up

    def _chat(self, chat_id: int | str) -> Chat:
        for chat in self.world.chats.values():
            if chat_id == chat.id or (chat.username and chat_id == f"@{chat.username}"):
                return chat
        raise bad("chat not found")

    def _target(self, parameters: Json) -> Chat:
        chat = self._chat(parameters["chat_id"])
        if chat.blocked:
            raise ApiError(403, "Forbidden: bot was blocked by the user")
        thread = parameters.get("message_thread_id")
        if thread is not None and thread not in chat.topics:
            raise bad("message thread not found")
        return chat

    def _reply_target(self, parameters: Json, chat: Chat) -> int | None:
        reply = parameters.get("reply_parameters", {})
        message_id = reply.get("message_id", parameters.get("reply_to_message_id"))
        source = self._chat(reply["chat_id"]) if "chat_id" in reply else chat
        if message_id is None:
            return None
        if (source.id, message_id) in self.world.messages:
            return int(message_id) if source is chat else None
        if reply.get("allow_sending_without_reply", parameters.get("allow_sending_without_reply")):
            return None
        raise bad("message to be replied not found")

    def _own(self, chat: Chat, message_id: int, purpose: str) -> Sent:
        for sent in self.world.sent:
            if (sent.chat_id, sent.message_id, sent.deleted) == (chat.id, message_id, False):
                return sent
        if (chat.id, message_id) in self.world.messages and purpose == "edit":
            raise bad("message can't be edited")
        raise bad(f"message to {purpose} not found")

    def _upload(self, value: Upload | str, kind: str) -> Upload:
        if isinstance(value, str):
            if value not in self.world.files:
                raise bad("wrong remote file identifier specified: Wrong character in the string")
            path, data = self.world.files[value]
            return Upload(path.rpartition("/")[2], data)
        if not value.data:
            raise bad("file must be non-empty")
        if len(value.data) > UPLOAD_LIMIT:
            raise ApiError(413, "Request Entity Too Large")
        if kind == "photo" and (len(value.data) > PHOTO_LIMIT or not _IMAGE.match(value.data)):
            raise bad("IMAGE_PROCESS_FAILED")
        return value


def _scope(parameters: Json) -> str:
    scope = parameters.get("scope") or {"type": "default"}
    parts = [scope["type"], str(scope.get("chat_id", "")), parameters.get("language_code", "")]
    return ":".join(parts).rstrip(":")


def _formatted(parameters: Json, name: str, limit: int, too_long: str) -> tuple[str, list[Entity]]:
    source = parameters.get(name, "")
    if len(source.encode()) > SOURCE_LIMIT:
        raise bad("text is too long")
    text, entities = source.strip(), list[Entity]()
    match parameters.get("parse_mode", ""):
        case "":
            pass
        case mode if mode.upper() == "HTML":
            try:
                text, entities = parse_html(source)
            except MarkupError as error:
                raise bad(f"can't parse entities: {error}") from error
        case _:
            raise bad("unsupported parse_mode")
    if utf16(text) > limit:
        raise bad(too_long)
    return text, entities


def _content(sent: Sent) -> Json:
    text, entities = ("text", "entities") if sent.kind == "text" else ("caption", "caption_entities")
    shown: Json = {text: sent.text} if sent.text else {}
    if sent.entities:
        shown[entities] = [entity.to_json() for entity in sent.entities]
    return shown


def _media_fields(sent: Sent, stored: Json) -> Json:
    if sent.kind == "photo":
        return {"photo": [{**stored, "width": 90, "height": 90}]}
    extra: Json = {"video": {"width": 90, "height": 90}, "document": {"file_name": sent.file_name}}
    timed: Json = {} if sent.kind == "document" else {"duration": 1}
    return {sent.kind: {**stored, **timed, **extra.get(sent.kind, {})}}
