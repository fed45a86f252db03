"""A chat platform behind a proxy: it works, or the status names proxy or package, and never a password."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nanobot.channels.manager import ChannelManager
from nanobot.providers.scripted import ScriptedProvider
from tests.channels.conformance.conftest import DRIVERS, config_for
from tests.channels.conformance.driver import Driver
from tests.channels.conftest import eventually
from tests.gateway.conftest import running_gateway

PACKAGES = {
    "telegram": ("socksio", "python-telegram-bot[socks]"),
    "discord": ("aiohttp_socks", "aiohttp-socks"),
}
AWAY = {
    "telegram": {"apiBase": "https://telegram.invalid"},
    "discord": {"apiBase": "https://discord.invalid"},
}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


async def last_error(driver: Driver, **settings: str) -> str:
    """What `nanobot channels status` shows of the channel."""
    config = config_for(driver, **AWAY[driver.channel], **settings)
    async with running_gateway(config, ScriptedProvider([])) as (_, gateway):
        channels: ChannelManager = gateway.channels
        said = await eventually(lambda: channels.status[driver.channel].last_error)
    assert "hunter22" not in said
    return said


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.channel)
@pytest.mark.parametrize("own", [False, True])
async def test_a_dead_proxy_is_named(kind: type[Driver], own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    address, settings, place = "http://user:hunter22@127.0.0.1:9", dict[str, str](), "HTTPS_PROXY"
    if own:
        settings, place = {"proxy": address}, f"channels.{kind.channel}.proxy"
    else:
        monkeypatch.setenv("HTTPS_PROXY", address)
    async with kind() as driver:
        said = await last_error(driver, **settings)
        assert (
            f"cannot be reached through the proxy http://127.0.0.1:9 (from {place}); check that proxy" in said
        )
        monkeypatch.setenv("no_proxy", f"{kind.channel}.invalid")
        if not own:
            assert "proxy" not in await last_error(driver)


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.channel)
async def test_the_package_of_a_socks_proxy_is_named(
    kind: type[Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, package = PACKAGES[kind.channel]
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("all_proxy", "socks://user:hunter22@127.0.0.1:9")
    async with kind() as driver:
        said = await last_error(driver)
    assert "proxy socks5h://127.0.0.1:9 (from all_proxy) needs a package" in said
    assert f"pip install {package}" in said.replace('"', "")
