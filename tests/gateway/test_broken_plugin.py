"""Channel plugins with bugs: the gateway says so, tries again, and serves everybody else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanobot.channels.registry import load_channel
from nanobot.config.schema import Config
from nanobot.errors import ChannelError
from nanobot.messages import ToolCall
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.channels.conftest import eventually
from tests.gateway.conftest import config_for, running_gateway
from tests.gateway.processes import Home
from tests.peers.loopback_platform import Platform

BROKEN = """
from nanobot_loopback import LoopbackChannel
from nanobot.channels.base import Capabilities

class Broken(LoopbackChannel):
    capabilities = Capabilities(streaming=True, typing=True)
    sends = runs = 0

    async def run(self):
        self.runs += 1
        if self.runs == 1:
            raise KeyError("run")
        await super().run()

    async def send(self, message):
        self.sends += 1
        if self.sends == 1:
            raise KeyError("send")
        return await super().send(message)

    async def fetch(self, attachment, target):
        target.write_text("half of it")
        raise KeyError("fetch")

    async def show_typing(self, inbound):
        raise KeyError("typing")

    async def show_partial(self, message):
        raise KeyError("partial")
"""


@pytest.fixture(autouse=True)
def plugins(tmp_path: Path) -> Iterator[Path]:
    """Two more plugins are installed: `broken`, and `unloadable`."""
    folder = tmp_path / "plugins"
    for name, target in {"broken": "qa_broken:Broken", "unloadable": "qa_unloadable:Channel"}.items():
        info = folder / f"qa_{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: qa-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nanobot.channels]\n{name} = {target}\n")
    (folder / "qa_broken.py").write_text(BROKEN)
    (folder / "qa_unloadable.py").write_text("raise RuntimeError('wrong version of something')\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("qa_broken", None)


def broken_config(platform: Platform) -> Config:
    section = {"enabled": True, "port": platform.port, "allowFrom": ["anna"]}
    return Config.model_validate({"channels": {"broken": section}})


async def test_bugs_of_a_channel_are_waited_for(
    platform: Platform, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replies = [Reply(tool_calls=[ToolCall("c1", "list_dir", {"path": "."})]), "pong"]
    async with running_gateway(broken_config(platform), ScriptedProvider(replies)) as (app, gateway):
        platform.user_sends("anna", "ping", files=["a.txt"])
        assert await platform.wait_for("anna", 1) == ["pong"]
        assert "KeyError: 'send'" in gateway.channels.status["broken"].last_error
        shown = str((await app.store.sessions.history("broken:anna"))[0].message.parts)
    assert "could not be fetched" in shown
    assert not list((home / "media" / "broken").glob("[!.]*"))
    assert caplog.text.count("failed (broken failed: KeyError: 'send')") == 1


async def test_a_channel_that_cannot_say_what_it_can_do_ends_nothing_else(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def capabilities(channel: object) -> None:
        raise KeyError("capabilities")

    monkeypatch.setattr("qa_broken.Broken.capabilities", property(capabilities))
    async with running_gateway(broken_config(platform), ScriptedProvider(["pong", "again"])):
        platform.user_sends("anna", "ping")
        platform.user_sends("anna", "ping")
        assert await platform.wait_for("anna", 2) == ["pong", "again"]
    assert "Channel broken failed" in caplog.text


async def test_a_plugin_that_cannot_be_imported_fails_alone(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ChannelError, match=r"unloadable cannot be loaded .*wrong version"):
        load_channel("unloadable")
    config = config_for(platform, channels={"unloadable": {"enabled": True, "allowFrom": ["x"]}})
    async with running_gateway(config, ScriptedProvider(["pong"])) as (_, gateway):
        platform.user_sends("anna", "ping")
        assert await platform.wait_for("anna", 1) == ["pong"]
        assert gateway.channels.status["unloadable"].state == "failed"


async def test_channels_status_tells_what_is_wrong_with_a_plugin(tmp_path: Path, plugins: Path) -> None:
    home = Home(tmp_path)
    home.env["PYTHONPATH"] += f":{plugins}"
    home.configure(channels={"unloadable": {"enabled": True}})
    code, out, complaints = await home.run("channels", "status")
    assert (code, complaints) == (0, "")
    assert "wrong version of something" in out


@pytest.mark.parametrize("wrong", [None, "anna", 5, {"a": 1}, [None], [["anna"]], [True], [""]])
async def test_a_wrong_allow_from_of_a_plugin_ends_its_channel_alone(platform: Platform, wrong: Any) -> None:
    config = config_for(platform, allow=wrong)
    async with running_gateway(config, ScriptedProvider(["pong"])) as (_, gateway):
        status = gateway.channels.status["loopback"]
        await eventually(lambda: status.state == "failed")
        assert status.last_error.startswith("channels.loopback: allowFrom must be a list of ids")
        assert gateway.channels.channel("loopback") is None


async def test_what_is_wrong_with_a_plugins_section_is_logged_once_and_told(
    tmp_path: Path, platform: Platform
) -> None:
    home = Home(tmp_path, platform)
    home.configure(channels={"loopback": {**home.config["channels"]["loopback"], "allowFrom": None}})
    gateway = await home.gateway()
    await gateway.port()
    await gateway.says("allowFrom must be a list of ids")
    _, out, _ = await home.run("channels", "status")
    assert 'allowFrom must be a list of ids, for example ["12345"]' in out
    assert "\n".join(gateway.log).count("allowFrom must be") == 1
    assert "Traceback" not in "\n".join(gateway.log)
    await home.close()


async def test_a_config_error_ends_the_process_with_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.configure(gateway={"host": "0.0.0.0", "port": 0})
    gateway = await home.gateway()
    assert await gateway.ended() == 1
    assert gateway.log[-2].startswith("Error: gateway.host '0.0.0.0' can be reached by other machines")
    assert "Traceback" not in "\n".join(gateway.log)


async def test_deliveries_that_hang_hold_up_nobody_else(platform: Platform) -> None:
    take = platform._take

    async def ignore_the_dead(message: Any, writer: Any) -> None:
        if not message.get("chat", "").startswith("dead"):
            await take(message, writer)

    platform._take = ignore_the_dead  # type: ignore[method-assign]
    async with running_gateway(config_for(platform), ScriptedProvider(lambda _: "pong")) as (app, _):
        for number in range(40):
            platform.user_sends(f"dead{number}", "ping")
        async with asyncio.timeout(20):
            while (await app.store.outbox.backlog())["pending"] < 40:
                await app.store.conversations.newest()
        platform.user_sends("live", "ping")
        assert await platform.wait_for("live", 1) == ["pong"]
