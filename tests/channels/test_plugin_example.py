"""The channel plugin of its docs page: the text is what `examples/channel-plugin` holds, and it works."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.processes import Home

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "channel-plugin"
PAGE = (ROOT / "docs/channels/writing-a-channel.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
FILES = ("nanobot_folder.py", "pyproject.toml")


def printed(file: str) -> str:
    """The block of the page that is this file of the example."""
    mark = {"nanobot_folder.py": "class FolderChannel", "pyproject.toml": "[project.entry-points"}[file]
    (found,) = (text for _, text in BLOCKS if mark in text)
    return found


def printed_config() -> dict[str, object]:
    """The `channels` section that the page gives for the example."""
    (found,) = (text for kind, text in BLOCKS if kind == "json" and '"folder"' in text)
    section: dict[str, object] = json.loads(found)["channels"]["folder"]
    return section


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the plugin was installed from what the page prints."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for file in FILES:
        (source / file).write_text(printed(file), encoding="utf-8")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(build, cwd=source, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:  # a wheel of plain Python is installed by unpacking it
        archive.extractall(target)
    return target


@pytest.fixture
async def home(tmp_path: Path, installed: Path) -> AsyncIterator[Home]:
    made = Home(tmp_path)
    made.env["PYTHONPATH"] += f"{os.pathsep}{installed}"
    chat = {"path": str(tmp_path / "chat"), "allowFrom": [str(os.getuid())]}
    made.configure(channels={"folder": printed_config() | chat})
    made.script({"when": "Where", "text": "Here."}, {"when": "Who", "text": "nanobot."})
    yield made
    await made.close()


async def reply_to(chat: Path, name: str) -> str:
    """What was answered to the chat, as soon as it is there."""
    text = ""
    async with asyncio.timeout(20):
        while not text:
            await asyncio.sleep(0.05)
            text = "".join(
                file.read_text(encoding="utf-8") for file in (chat / "replies" / name).glob("*.txt")
            )
    return text


def put(chat: Path, name: str, text: str) -> None:
    """Writes a message as the page says: somewhere else first, so that nobody reads half of it."""
    draft = chat / "draft"
    draft.write_text(text, encoding="utf-8")
    draft.rename(chat / "inbox" / f"{name}.txt")


@pytest.mark.parametrize("file", FILES)
def test_the_readme_shows_the_files_of_the_example(file: str) -> None:
    assert printed(file) == (EXAMPLE / file).read_text(encoding="utf-8")


async def test_the_example_answers(home: Home) -> None:
    gateway = await home.gateway()
    await gateway.says("Channel folder is connected")
    chat = home.folder / "chat"
    put(chat, "first", "Where are you?")
    put(chat, "second", "Who are you?")
    assert await reply_to(chat, "first") == "Here."
    assert await reply_to(chat, "second") == "nanobot."
    assert not list((chat / "inbox").iterdir())
    assert "unknown key" not in "\n".join(gateway.log)
    assert "answers everyone" not in "\n".join(gateway.log)


async def test_the_example_brings_files(home: Home) -> None:
    chat = home.folder / "chat"
    call = {"name": "message", "arguments": {"content": "Here it is.", "media": ["SOUL.md"]}}
    home.script({"tool_calls": [call]}, {"text": "Sent."})
    gateway = await home.gateway()
    await gateway.says("Channel folder is connected")
    put(chat, "first", "Send me a file.")
    assert "Here it is." in await reply_to(chat, "first")
    assert (chat / "replies" / "first" / "SOUL.md").read_text() == (
        home.home / "workspace/SOUL.md"
    ).read_text()


async def test_the_example_obeys_allow_from(home: Home) -> None:
    section = printed_config() | {"path": str(home.folder / "chat"), "allowFrom": ["somebody else"]}
    home.configure(channels={"folder": section})
    gateway = await home.gateway()
    await gateway.says("Channel folder is connected")
    put(home.folder / "chat", "first", "Where are you?")
    assert str(os.getuid()) in await gateway.says("is not in allowFrom")
    code, out, _ = await home.run("outbox", "list")
    assert (code, out) == (0, "Everything was delivered.\n")


async def test_the_example_keeps_a_reply_that_it_cannot_write(home: Home) -> None:
    chat = home.folder / "chat"
    chat.mkdir()
    (chat / "replies").write_text("in the way")
    gateway = await home.gateway()
    await gateway.says("Channel folder is connected")
    put(chat, "first", "Where are you?")
    await gateway.says("Cannot write the reply")
    (chat / "replies").unlink()
    assert await reply_to(chat, "first") == "Here."
