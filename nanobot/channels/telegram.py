"""Telegram: https://core.telegram.org/bots/api, by long polling with python-telegram-bot.

A message is confirmed to Telegram, by asking for the next one, only after it was accepted. Telegram
has no idempotency key, so what was sent right before a crash or a lost answer may be sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from telegram import Bot, BotCommand, LinkPreviewOptions, ReplyParameters, User
from telegram.error import BadRequest

from nanobot.channels.base import Capabilities, Channel, ChannelHost
from nanobot.channels.splitting import utf16_len
from nanobot.channels.telegram_connection import channel_errors, open_bot, says
from nanobot.channels.telegram_format import TEXT_LIMIT, plain_text, split_for_telegram, to_telegram_html
from nanobot.channels.telegram_inbound import Sender, read_message
from nanobot.config.channels import TelegramConfig
from nanobot.errors import ChannelError, StorageError
from nanobot.messages import Attachment, InboundMessage, OutboundMessage
from nanobot.paths import write_atomic

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_PATIENCE = 3  # failures in a row that are only waited for; one more ends the connection
_GROUP_EDIT_EVERY = 4.0  # seconds; a group takes about 20 messages and edits a minute
_QUIET_AFTER_ERROR = 5.0
_REMEMBERED = 200  # outgoing messages whose progress is known
_DOWNLOAD_TIMEOUT = 60.0
_UPLOAD_LIMIT = 50 * 1024 * 1024
_PHOTO_LIMIT = 10 * 1024 * 1024
_PHOTO_TYPES = ("image/jpeg", "image/png", "image/webp")
# Opening a link for its preview would tell its server whatever a manipulated model put into the address.
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_COMMAND_NAME = re.compile(r"[a-z0-9_]{1,32}")


@dataclass
class _Shown:
    """What a chat has seen of one outgoing message.

    `growing_id` is the message that is edited while the answer is written, `html` what it shows,
    `growing` the call that runs right now, `quiet_until` (loop time) when the next may. `receipts`
    are the ids of the parts that are complete; `closed` says that completing has begun.
    """

    growing_id: int | None = None
    html: str = ""
    growing: asyncio.Task[None] | None = None
    quiet_until: float = 0.0
    receipts: list[int] = field(default_factory=list)
    closed: bool = False


class TelegramChannel(Channel):
    """A bot. Telegram holds a poll for `poll_seconds`; `grace` seconds later it is given up.

    After a failed poll comes a `pause` (seconds), doubled with every failure in a row.
    """

    capabilities = Capabilities(streaming=True, typing=True)
    config: TelegramConfig

    def __init__(
        self,
        name: str,
        config: TelegramConfig,
        host: ChannelHost,
        *,
        poll_seconds: int = 30,
        grace: float = 15.0,
        pause: float = 0.5,
    ) -> None:
        super().__init__(name, config, host)
        self._poll_seconds = poll_seconds
        self._grace = grace
        self._pause = pause
        self._connected: Bot | None = None
        self._next_update: int | None = None
        self._shown: dict[str, _Shown] = {}

    async def run(self) -> None:
        self._next_update = None  # Telegram knows what was confirmed
        async with open_bot(self.config, self._grace) as bot:
            try:
                with channel_errors():
                    me = await bot.get_me()
                    await bot.delete_webhook()  # while one is set, nothing can be polled
                self._connected = bot
                self.host.connected()
                await self._list_commands(bot)
                await self._receive(bot, me)
            finally:
                self._connected = None
                await self._stop_growing()

    # Receiving

    async def _receive(self, bot: Bot, me: User) -> None:
        failures = 0
        while True:
            try:
                await self._poll(bot, me)
                failures = 0
            except ChannelError as error:
                failures += 1
                if failures > _PATIENCE:
                    raise
                log.warning("Channel %s: %s", self.name, error)
                await asyncio.sleep(error.retry_after or self._pause * 2.0 ** (failures - 1))

    async def _poll(self, bot: Bot, me: User) -> None:
        """Wait for messages and have them accepted, each before the next."""
        try:
            with channel_errors():
                async with asyncio.timeout(self._poll_seconds + 2 * self._grace):
                    updates = await bot.get_updates(
                        self._next_update, timeout=self._poll_seconds, allowed_updates=["message"]
                    )
        except TimeoutError as error:
            raise ChannelError("Telegram left a poll without an answer.") from error
        for update in updates:
            received = update.message and read_message(update.message, me, self.name, self.config)
            if received:
                await self._accept(*received)
            self._next_update = update.update_id + 1

    async def _accept(self, inbound: InboundMessage, sender: Sender) -> None:
        try:
            await self.host.accept(inbound, sender.names)
        except StorageError as error:
            raise ChannelError(f"Messages wait at Telegram: {error}") from error

    async def fetch(self, attachment: Attachment, target: Path) -> None:
        bot = self._bot()
        with channel_errors():
            file = await bot.get_file(attachment.ref)
            # A server in --local mode gives a path of its own disk: never one to open here.
            if not file.file_path or not file.file_path.startswith(("http://", "https://")):
                raise ChannelError("The Bot API server gives no download address.", permanent=True)
            data = await bot.request.retrieve(file.file_path, read_timeout=_DOWNLOAD_TIMEOUT)
        await asyncio.to_thread(write_atomic, target, data)

    # Showing a running turn

    async def show_typing(self, inbound: InboundMessage) -> None:
        thread = _thread(inbound.metadata.get("thread"))
        with channel_errors():
            await self._bot().send_chat_action(inbound.chat_id, "typing", message_thread_id=thread)

    async def show_partial(self, message: OutboundMessage) -> None:
        shown = self._progress_of(message.id)
        running = shown.growing is not None and not shown.growing.done()
        if shown.closed or running or asyncio.get_running_loop().time() < shown.quiet_until:
            return
        # Cancelled half-way, the call could still take effect, behind the back of `send`.
        shown.growing = asyncio.create_task(self._grow(message, shown))
        await asyncio.shield(shown.growing)

    async def _grow(self, message: OutboundMessage, shown: _Shown) -> None:
        """Show as much of an unfinished answer as fits into its first message. Never raises ChannelError."""
        clock = asyncio.get_running_loop().time
        pieces = split_for_telegram(message.text)
        html = to_telegram_html(pieces[0]) if pieces else ""
        if not html or html == shown.html:
            return
        try:
            with channel_errors():
                if shown.growing_id is None:
                    shown.growing_id = await self._new_text(message, html, "HTML", quote=True)
                else:
                    await self._edit(message.chat_id, shown.growing_id, html, "HTML")
        except ChannelError as error:
            # A message whose fate is unknown is not begun again: it could be there twice.
            quiet = _QUIET_AFTER_ERROR if shown.growing_id else math.inf
            shown.quiet_until = clock() + (error.retry_after or quiet)
            log.debug("A growing answer was not shown: %s", error)
            return
        shown.html = html
        if message.chat_id.startswith("-"):
            shown.quiet_until = clock() + _GROUP_EDIT_EVERY

    async def _stop_growing(self) -> None:
        tasks = [shown.growing for shown in self._shown.values() if shown.growing is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Sending

    async def send(self, message: OutboundMessage) -> str:
        """Send text, then files; called again after an error, it goes on where it stopped."""
        bot = self._bot()
        await asyncio.to_thread(_check_files, message.attachments)
        shown = self._progress_of(message.id)
        shown.closed = True
        if message.kind == "progress":
            del self._shown[message.id]  # interim words stay; the answer will be a message of its own
        if shown.growing is not None:
            await asyncio.wait([shown.growing])
        parts: list[str | Attachment] = [*split_for_telegram(message.text), *message.attachments]
        with channel_errors():
            for part in parts[len(shown.receipts) :]:
                if isinstance(part, Attachment):
                    receipt = await self._send_file(bot, message, part)
                else:
                    receipt = await self._send_text(message, part, shown)
                shown.receipts.append(receipt)
        return ",".join(map(str, shown.receipts))

    async def _send_text(self, message: OutboundMessage, piece: str, shown: _Shown) -> int:
        """Send a piece, or turn the growing message into it when that is the first."""
        quote = message.kind == "reply" and not shown.receipts
        growing_id = None if shown.receipts else shown.growing_id
        if growing_id is not None:
            try:
                await _formatted(piece, lambda *text: self._edit(message.chat_id, growing_id, *text))
                return growing_id
            except BadRequest as error:
                if not says(error, "message to edit not found", "can't be edited"):
                    raise
        return await _formatted(piece, lambda *text: self._new_text(message, *text, quote=quote))

    async def _new_text(
        self, message: OutboundMessage, text: str, parse_mode: str | None, *, quote: bool
    ) -> int:
        target = message.metadata.get("message_id", "")
        reply = ReplyParameters(int(target), allow_sending_without_reply=True) if target.isdigit() else None
        sent = await self._bot().send_message(
            message.chat_id,
            text,
            parse_mode=parse_mode,
            message_thread_id=_thread(message.metadata.get("thread")),
            reply_parameters=reply if quote and self.config.reply_to_message else None,
            link_preview_options=_NO_PREVIEW,
        )
        return sent.message_id

    async def _edit(self, chat_id: str, message_id: int, text: str, parse_mode: str | None) -> None:
        try:
            await self._bot().edit_message_text(
                text, chat_id, message_id, parse_mode=parse_mode, link_preview_options=_NO_PREVIEW
            )
        except BadRequest as error:
            if not says(error, "message is not modified"):
                raise

    async def _send_file(self, bot: Bot, message: OutboundMessage, file: Attachment) -> int:
        data = await asyncio.to_thread(_read_file, file)
        thread = _thread(message.metadata.get("thread"))
        if file.media_type in _PHOTO_TYPES and len(data) <= _PHOTO_LIMIT:
            try:
                photo = await bot.send_photo(
                    message.chat_id, data, filename=file.name, message_thread_id=thread
                )
                return photo.message_id
            except BadRequest as error:
                log.info("Telegram takes %s as no photo (%s); it goes out as a file", file.name, error)
        document = await bot.send_document(
            message.chat_id, data, filename=file.name, message_thread_id=thread
        )
        return document.message_id

    # Around both

    def _bot(self) -> Bot:
        if self._connected is None:
            raise ChannelError("Telegram is not connected.")
        return self._connected

    def _progress_of(self, message_id: str) -> _Shown:
        shown = self._shown.pop(message_id, None) or _Shown()
        while len(self._shown) >= _REMEMBERED:
            del self._shown[next(iter(self._shown))]  # the one that was not used for the longest time
        self._shown[message_id] = shown
        return shown

    async def _list_commands(self, bot: Bot) -> None:
        """Offer the slash commands in Telegram's menu; the bot works without, too."""
        commands = [
            BotCommand(name, description[:256])
            for name, description in self.host.commands
            if _COMMAND_NAME.fullmatch(name)
        ]
        try:
            with channel_errors():
                await bot.set_my_commands(commands)
        except ChannelError as error:
            log.warning("The commands could not be put into Telegram's menu: %s", error)


async def _formatted(piece: str, show: Callable[[str, str | None], Awaitable[Result]]) -> Result:
    """Show Markdown as (text, parse mode): as HTML, or without formatting should Telegram refuse that."""
    try:
        return await show(to_telegram_html(piece), "HTML")
    except BadRequest as error:
        if not says(error, "entit", "too long"):
            raise
        log.warning("Telegram refused formatted text (%s); it goes out unformatted", error)
    plain = plain_text(piece)
    return await show(plain if utf16_len(plain) <= TEXT_LIMIT else piece, None)


def _check_files(files: tuple[Attachment, ...]) -> None:
    """Raises ChannelError for a file that cannot go out, before anything of its message does."""
    for file in files:
        with _file_errors(file):
            size = Path(file.path).stat().st_size
        if not 0 < size <= _UPLOAD_LIMIT:
            problem = "it is larger than 50 MB" if size else "it is empty"
            raise ChannelError(f"{file.name} cannot be sent to Telegram: {problem}.", permanent=True)


def _read_file(file: Attachment) -> bytes:
    with _file_errors(file):
        return Path(file.path).read_bytes()


@contextlib.contextmanager
def _file_errors(file: Attachment) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ChannelError(f"{file.name} cannot be sent: {error.strerror}.", permanent=True) from error


def _thread(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
