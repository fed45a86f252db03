"""Between the call of the message tool and the delivery, the path may come to lead elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nanobot.messages import ToolCall
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.channels.conftest import config_for, eventually
from tests.gateway.conftest import running_gateway
from tests.peers.telegram_api import TelegramServer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
async def server(home: Path) -> AsyncIterator[TelegramServer]:
    async with TelegramServer() as running:
        yield running


def linked(file: Path, secret: Path) -> None:
    file.unlink()
    file.symlink_to(secret)


def linked_folder(file: Path, secret: Path) -> None:
    file.parent.rename(file.parent.with_name("elsewhere"))
    (secret.parent / file.name).write_bytes(secret.read_bytes())
    file.parent.symlink_to(secret.parent)


def hard_linked(file: Path, secret: Path) -> None:
    file.unlink()
    file.hardlink_to(secret)


def rewritten(file: Path, secret: Path) -> None:
    file.write_bytes(secret.read_bytes())


def removed(file: Path, secret: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("change", [linked, linked_folder, hard_linked, rewritten, removed])
async def test_what_was_checked_is_sent(
    server: TelegramServer, home: Path, change: Callable[[Path, Path], None]
) -> None:
    ann, secret = server.user(7), home / "config.json"
    file = home / "workspace" / "out" / "report.txt"
    file.parent.mkdir(parents=True)
    file.write_text("the report")
    secret.write_text('{"providers": {"groq": {"apiKey": "gsk_secret"}}}')
    config = config_for(server)
    config.tools.restrict_to_workspace = True
    call = ToolCall("c1", "message", {"content": "Here:", "media": ["out/report.txt"]})
    server.fail("sendDocument", 429, retry_after=1)
    async with running_gateway(config, ScriptedProvider([Reply(tool_calls=[call]), "done"])):
        ann.send("the report, please")
        await server.wait_for(lambda: server.count("sendDocument") == 1)
        change(file, secret)
        await server.wait_for(lambda: [sent for sent in server.sent if sent.kind == "document"])
        # nothing is kept of what was delivered
        await eventually(lambda: not list((home / "outgoing").iterdir()))
    (sent,) = [sent for sent in server.sent if sent.kind == "document"]
    assert (sent.file_name, sent.file_data) == ("report.txt", b"the report")
