"""The Bot API as the channel uses it: the library's Bot, and what its errors mean for the owner."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
from telegram import Bot
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

from nanobot.channels.telegram_config import TelegramConfig
from nanobot.config.proxies import Proxy, proxy_for
from nanobot.errors import ChannelError, MarkupRefused, MessageGone

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


@contextlib.asynccontextmanager
async def open_bot(config: TelegramConfig) -> AsyncIterator[tuple[Bot, HTTPXRequest]]:
    """The bot of a config, and the connection for its polls; neither makes a request by itself.

    Raises ChannelError when the config cannot work.
    """
    token = config.token.strip()
    if not _TOKEN.fullmatch(token):
        wrong = "channels.telegram.token is no bot token: @BotFather gives you one like 123456:ABC-DEF."
        raise ChannelError(wrong, permanent=True)
    # The token is part of every address, and these loggers write addresses below these levels.
    for logger in ("httpx", "httpcore"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    logging.getLogger("telegram").setLevel(logging.INFO)
    server = (config.api_base or _OFFICIAL_SERVER).rstrip("/")
    proxy = Proxy(config.proxy, "channels.telegram.proxy") if config.proxy else proxy_for(server)
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
    return any(word in str(error).lower() for word in words)  # the library changes its case


class _Known(TelegramError):
    """What the owner is told is known already: the library lets only errors of its own pass."""

    def __init__(self, meaning: ChannelError) -> None:
        super().__init__(str(meaning))
        self.meaning = meaning


class _Request(HTTPXRequest):
    """Reads some refusals before the library does, which logs every error page as a bug."""

    way = ""

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        try:
            status, payload = await super().do_request(*args, **kwargs)
        except NetworkError as error:
            raise _Known(ChannelError(f"Telegram cannot be reached{self.way} ({_text(error)}).")) from error
        if status == 429:
            seconds = _retry_after(payload)
            raise _Known(ChannelError(f"Telegram asks to wait {seconds:.0f} seconds.", retry_after=seconds))
        if status == 413:
            raise _Known(ChannelError("The file is larger than Telegram takes.", permanent=True))
        if status >= 500:
            raise _Known(ChannelError(f"Telegram cannot be reached (status {status})."))
        return status, payload


def _retry_after(payload: bytes) -> float:
    try:
        return float(json.loads(payload)["parameters"]["retry_after"])
    except (ValueError, KeyError, TypeError):
        return 5.0


def _new_request(proxy: Proxy | None, connections: int) -> HTTPXRequest:
    # The reasons are left out below: they would spell out the address with its password.
    try:
        request = _Request(
            proxy=proxy.url if proxy else None,
            connection_pool_size=connections,
            read_timeout=_SEND_TIMEOUT,
            write_timeout=_SEND_TIMEOUT,
            pool_timeout=_SEND_TIMEOUT,
            media_write_timeout=_UPLOAD_TIMEOUT,
        )
    except RuntimeError:
        needed = f'The proxy {proxy} needs a package. Run: pip install "python-telegram-bot[socks]"'
        raise ChannelError(needed, permanent=True) from None
    except (ValueError, httpx.InvalidURL):
        named = proxy.variable if proxy else ""
        form = f"{named} is no proxy address: write http://host:port or socks5://host:port."
        raise ChannelError(form, permanent=True) from None
    request.way = f" through the proxy {proxy}; check that proxy" if proxy else ""
    return request


def _text(error: TelegramError) -> str:
    return _TOKEN.sub("***", str(error)).strip().rstrip(".")


def _channel_error(error: TelegramError) -> ChannelError:
    text = _text(error)
    match error:
        case _Known():
            return error.meaning
        case InvalidToken():
            wrong = (
                "Telegram does not accept the bot token: compare channels.telegram.token with @BotFather's."
            )
            return ChannelError(wrong, permanent=True)
        case Conflict():
            other = "Another program receives the messages of this bot: stop it, or create one for nanobot"
            return ChannelError(f"{other} ({text}).")
        case ChatMigrated():
            return ChannelError(f"The group has a new id now: {error.new_chat_id}.", permanent=True)
        case BadRequest() if _says(error, "entit", "too long"):
            return MarkupRefused(f"{text}.", permanent=True)
        case BadRequest() if _says(error, "message to edit not found", "can't be edited"):
            return MessageGone(f"{text}.", permanent=True)
        case BadRequest() | Forbidden():
            meaning = next((meaning for said, meaning in _MEANINGS.items() if _says(error, said)), "")
            return ChannelError(meaning or f"Telegram refused the request: {text}.", permanent=True)
    return ChannelError(f"Telegram cannot be reached ({text}).")
