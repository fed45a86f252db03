"""Telegram: https://core.telegram.org/bots/api, by long polling with python-telegram-bot.

A message is confirmed to Telegram, by asking for the next one, only after it was accepted. Telegram
has no idempotency key, so what was sent right before a crash or a lost answer may be sent twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from telegram import Bot, LinkPreviewOptions, ReplyParameters
from telegram.error import BadRequest

from nanobot.channels.base import Capabilities
from nanobot.channels.dialects import TELEGRAM_HTML
from nanobot.channels.incoming import Incoming
from nanobot.channels.outgoing import OutgoingPart
from nanobot.channels.platform import Platform, keep_polling
from nanobot.channels.telegram_api import channel_errors, open_bot
from nanobot.channels.telegram_config import TelegramConfig
from nanobot.channels.telegram_inbound import read_message
from nanobot.errors import ChannelError
from nanobot.messages import Attachment, InboundMessage

log = logging.getLogger(__name__)

_GROUP_EDIT_PAUSE = 4.0  # seconds; a group takes about 20 messages and edits a minute
_DOWNLOAD_TIMEOUT = 60.0
_PHOTO_LIMIT = 10 * 1024 * 1024
_PHOTO_TYPES = ("image/jpeg", "image/png", "image/webp")
# Opening a link for its preview would tell its server whatever a manipulated model put into the address.
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)


class TelegramChannel(Platform[Bot]):
    """A bot. Telegram holds a poll for `poll_seconds`; `grace` seconds later it is given up.

    After a failed poll comes a `pause` (seconds), doubled with every failure in a row.
    """

    title = "Telegram"
    capabilities = Capabilities(streaming=True, typing=True)
    dialect = TELEGRAM_HTML
    upload_limit = 50 * 1024 * 1024
    caption_limit = 1024
    config: TelegramConfig

    def __init__(self, *given: Any, poll_seconds: int = 30, grace: float = 15.0, pause: float = 0.5) -> None:
        super().__init__(*given)
        self._poll_seconds = poll_seconds
        self._grace = grace
        self._pause = pause

    async def run(self) -> None:
        self._next_update = 0  # Telegram knows what was confirmed
        async with open_bot(self.config) as (bot, self._polls):
            try:
                with channel_errors():
                    await bot.get_me()
                    await bot.delete_webhook()  # while one is set, nothing can be polled
                self.connection = bot
                await self.started()
                await keep_polling(self.name, self._poll, self._pause)
            finally:
                await self.ended()

    # Receiving

    async def _poll(self) -> None:
        """Wait for messages and have them accepted, each before the next."""

        async def more(known: int) -> list[dict[str, Any]]:
            return (await self._updates(0))[known:]

        async for update, _ in self.receive(await self._updates(self._poll_seconds), more):
            self._next_update = update["update_id"] + 1

    async def _updates(self, seconds: int) -> list[dict[str, Any]]:
        """What waits at Telegram, as it came: the library would refuse all because of one it cannot read."""
        query = {"offset": self._next_update, "timeout": seconds, "allowed_updates": '["message"]'}
        try:
            with channel_errors():
                async with asyncio.timeout(seconds + 2 * self._grace):
                    updates: Any = await self._polls.post(
                        f"{self.client.base_url}/getUpdates?{urlencode(query)}",
                        read_timeout=seconds + self._grace,
                    )
        except TimeoutError as error:
            raise ChannelError("Telegram left a poll without an answer.") from error
        return [one for one in updates if isinstance(one, dict) and isinstance(one.get("update_id"), int)]

    def parse(self, event: dict[str, Any]) -> Incoming | None:
        if "message" not in event:
            return None
        return read_message(event["message"], self.client.bot, self.config.allow_from)

    async def download(self, ref: str) -> bytes:
        bot = self.client
        with channel_errors():
            file = await bot.get_file(ref)
            # A server in --local mode gives a path of its own disk: never one to open here.
            if not file.file_path or not file.file_path.startswith(("http://", "https://")):
                raise ChannelError("The Bot API server gives no download address.", permanent=True)
            return await bot.request.retrieve(file.file_path, read_timeout=_DOWNLOAD_TIMEOUT)

    # Sending

    async def react(self, inbound: InboundMessage) -> None:
        if emoji := self.config.react_emoji:
            message_id = int(inbound.metadata["message_id"])
            with channel_errors():
                await self.client.set_message_reaction(inbound.chat_id, message_id, emoji)

    async def show_typing(self, inbound: InboundMessage) -> None:
        thread = _thread(inbound.metadata)
        with channel_errors():
            await self.client.send_chat_action(inbound.chat_id, "typing", message_thread_id=thread)

    def edit_pause(self, chat_id: str) -> float:
        return _GROUP_EDIT_PAUSE if chat_id.startswith("-") else 0.0

    async def send_part(self, part: OutgoingPart) -> str:
        target = part.metadata.get("message_id", "") if part.quotes and self.config.reply_to_message else ""
        where: dict[str, Any] = {"chat_id": part.chat_id, "message_thread_id": _thread(part.metadata)}
        where["parse_mode"] = "HTML" if part.formatted else None
        if target.isdigit():
            where["reply_parameters"] = ReplyParameters(int(target), allow_sending_without_reply=True)
        with channel_errors():
            if part.file is not None:
                return await self._send_file(part, part.file, where)
            sent = await self.client.send_message(text=part.text, link_preview_options=_NO_PREVIEW, **where)
        return str(sent.message_id)

    async def _send_file(self, part: OutgoingPart, file: Attachment, where: dict[str, Any]) -> str:
        where |= {"caption": part.text or None, "filename": file.name}
        if file.media_type in _PHOTO_TYPES and len(part.data) <= _PHOTO_LIMIT:
            try:
                return str((await self.client.send_photo(photo=part.data, **where)).message_id)
            except BadRequest as error:
                log.info("Telegram takes %s as no photo (%s); it goes out as a file", file.name, error)
        return str((await self.client.send_document(document=part.data, **where)).message_id)

    async def edit_part(self, part: OutgoingPart, message_id: str) -> None:
        how: dict[str, Any] = {"parse_mode": "HTML" if part.formatted else None}
        how["link_preview_options"] = _NO_PREVIEW
        with channel_errors():
            await self.client.edit_message_text(part.text, part.chat_id, int(message_id), **how)

    async def show_menu(self, commands: list[tuple[str, str]]) -> None:
        with channel_errors():
            await self.client.set_my_commands([(name, text[:256]) for name, text in commands])


def _thread(metadata: Mapping[str, str]) -> int | None:
    thread = metadata.get("thread", "")
    return int(thread) if thread.isdigit() else None
