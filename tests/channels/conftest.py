"""Telegram under test: a loopback Bot API, and the channel or a whole gateway connected to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nanobot.channels.base import ChannelHost
from nanobot.channels.platform import Platform
from nanobot.channels.telegram import TelegramChannel
from nanobot.channels.telegram_config import TelegramConfig
from nanobot.config.schema import Config
from nanobot.messages import InboundMessage, OutboundMessage
from nanobot.providers.base import ModelRequest
from tests.peers.telegram_api import TOKEN, TelegramServer

T = TypeVar("T")
Accept = Callable[[InboundMessage, Collection[str]], Awaitable[bool]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to a message follows at once here."""
    monkeypatch.setattr(Platform, "rest", 0.05)


@pytest.fixture
async def server(home: Path) -> AsyncIterator[TelegramServer]:
    """The platform; nanobot's own files are in the test's folder."""
    async with TelegramServer() as running:
        yield running


def section(server: TelegramServer, **telegram: Any) -> dict[str, Any]:
    return {"enabled": True, "token": TOKEN, "apiBase": server.url, **telegram}


def config_for(server: TelegramServer, *, channels: dict[str, Any] | None = None, **telegram: Any) -> Config:
    return Config.model_validate({"channels": {"telegram": section(server, **telegram), **(channels or {})}})


def echo(request: ModelRequest) -> str:
    return f"you said: {request.messages[-1].text}"


def outbound(text: str, **fields: Any) -> OutboundMessage:
    """The reply of a turn to user 7."""
    return OutboundMessage("turn-1", "telegram", "7", text, **fields)


async def accept_all(inbound: InboundMessage, names: Collection[str]) -> bool:
    return True


async def eventually(condition: Callable[[], T]) -> T:
    async with asyncio.timeout(15):
        while True:
            if value := condition():
                return value
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_channel(
    server: TelegramServer, accept: Accept = accept_all, **times: Any
) -> AsyncIterator[TelegramChannel]:
    """The channel alone, connected, with a host that does what a test needs."""
    connected = asyncio.Event()
    config = TelegramConfig.model_validate(section(server))
    host = ChannelHost(accept, connected.set)
    channel = TelegramChannel("telegram", config, host, **{"pause": 0.02, **times})
    task = asyncio.create_task(channel.run())
    try:
        await asyncio.wait_for(connected.wait(), 10)
        yield channel
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
