"""A channel of another package that stands on the shared base."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nanobot.config.schema import Config
from nanobot.providers.scripted import ScriptedProvider
from tests.channels.conftest import echo, eventually
from tests.gateway.conftest import running_gateway

PLUGIN = '''
import asyncio
from pathlib import Path
from nanobot.channels.incoming import Incoming
from nanobot.channels.dialects import Dialect
from nanobot.channels.platform import Platform
from nanobot.config.channels import ChannelConfig
from nanobot.config.section import key

class LinesConfig(ChannelConfig):
    path: str = key("", "Folder with what was said.")

class LinesChannel(Platform):
    """Lines of a file: `chat sender text`; what is sent is appended to another."""
    title = "Lines"
    section = LinesConfig
    dialect = Dialect(limit=40, bold="*{text}*")
    upload_limit = 100

    async def run(self):
        await self.started()
        lines = Path(self.config.path, "said").read_text().splitlines()
        async for line in self.receive(list(enumerate(lines))):
            pass
        await asyncio.Event().wait()

    def parse(self, event):
        number, line = event
        chat, sender, text = line.split(" ", 2)
        return Incoming(chat, str(number), sender, text)

    async def send_part(self, part):
        with Path(self.config.path, "sent").open("a") as file:
            file.write(f"{part.chat_id}: {part.text}\\\\n")
        return part.key
'''


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package = tmp_path / "site" / "lines-1.0.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Name: lines\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[nanobot.channels]\nlines = qa_lines:LinesChannel\n")
    (package.parent / "qa_lines.py").write_text(PLUGIN.replace("\\\\n", "\\n"))
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    yield
    sys.modules.pop("qa_lines", None)


def config(folder: Path, **more: Any) -> Config:
    lines = {"enabled": True, "path": str(folder), "allow_from": ["ann"], **more}
    return Config.model_validate({"channels": {"lines": lines}})


async def test_it_says_only_how_to_read_and_to_send(home: Path, tmp_path: Path) -> None:
    (tmp_path / "said").write_text("c1 ann **hello**\nnonsense\nc1 eve let me in\nc1 ann " + "word " * 12)
    sent = tmp_path / "sent"
    async with running_gateway(config(tmp_path), ScriptedProvider(echo)) as (_, gateway):
        await eventually(lambda: sent.exists() and len(sent.read_text().splitlines()) == 3)
        status = gateway.channels.status["lines"]
    assert (status.received, status.refused, status.unreadable) == (2, 1, 1)
    first, *rest = sent.read_text().splitlines()
    assert first == "c1: you said: *hello*"
    assert " ".join(rest).count("word") == 12


async def test_its_section_is_checked(home: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, groupPolicy="none of these")
    async with running_gateway(settings, ScriptedProvider(echo)) as (_, gateway):
        status = gateway.channels.status["lines"]
        await eventually(lambda: status.state == "failed")
    assert status.last_error.startswith("channels.lines: groupPolicy: expected 'mention'")
