"""A gateway in the test's own loop: real store and channel plugin, loopback platform, scripted model."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from nanobot.app import App, open_app
from nanobot.config.schema import Config
from nanobot.gateway import Gateway
from nanobot.providers.scripted import ScriptedProvider
from tests.peers.loopback_platform import Platform

PLUGIN = Path(__file__).parents[1] / "peers" / "loopback_plugin"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    """As if the loopback channel were installed."""
    sys.path.insert(0, str(PLUGIN))
    yield
    sys.path.remove(str(PLUGIN))


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Platform() as running:
        yield running


def config_for(platform: Platform, **sections: Any) -> Config:
    loopback = {"enabled": True, "port": platform.port, "allowFrom": sections.pop("allow", [])}
    channels = {"loopback": loopback, **sections.pop("channels", {})}
    return Config.model_validate({"channels": channels, **sections})


@contextlib.asynccontextmanager
async def running_gateway(config: Config, provider: ScriptedProvider) -> AsyncIterator[tuple[App, Gateway]]:
    """A gateway that leads, with `provider` as the default model."""
    async with open_app(config) as app:
        app.models.use(app.assistant.default_model, provider)
        gateway = Gateway(app)
        stop, leading = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(gateway.run(stop, leading.set))
        try:
            await asyncio.wait_for(leading.wait(), 10)
            yield app, gateway
        finally:
            stop.set()
            await asyncio.wait_for(task, 15)
