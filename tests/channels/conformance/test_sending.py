"""What every channel does with what nanobot sends: whole, in order, within the platform's limits."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from nanobot.channels.base import Channel
from nanobot.errors import ChannelError
from nanobot.messages import Attachment, OutboundMessage
from tests.channels.conformance.conftest import outbound, running_channel
from tests.channels.conformance.driver import Driver


async def growing(channel: Channel, message: OutboundMessage, *texts: str) -> None:
    for text in texts:
        await channel.show_partial(
            OutboundMessage(message.id, message.channel, message.chat_id, text, "progress")
        )


async def test_a_long_text_is_split_and_nothing_is_lost(driver: Driver) -> None:
    words = [f"word{number}" for number in range(driver.limit // 2)]
    text = " ".join(words)
    async with running_channel(driver) as channel:
        receipt = await channel.send(outbound(driver, text))
    shown = driver.texts()
    assert len(shown) > 1
    assert len(receipt.split(",")) == len(shown)
    assert " ".join(shown).split() == words
    assert all(len(piece) <= driver.limit for piece in shown)


async def test_code_that_is_split_stays_code(driver: Driver) -> None:
    lines = [f"line_{number} = '*' * {number}  # <&> `tick`" for number in range(driver.limit // 12)]
    code = "\n".join(lines)
    async with running_channel(driver) as channel:
        await channel.send(outbound(driver, f"Look:\n\n```python\n{code}\n```\n\nThat is all."))
    shown = driver.shown()
    assert len(shown) > 1
    assert [line for piece in shown for block in piece.code for line in block.splitlines()] == lines
    assert "That is all." in shown[-1].text


async def test_styles_are_written_in_the_platforms_own_way(driver: Driver) -> None:
    async with running_channel(driver) as channel:
        await channel.send(
            outbound(driver, "# Title\n\n**bold** *it* snake_case 2 * 3 < 4 & 5 > 1\n\n- one\n- two")
        )
    (text,) = driver.texts()
    flat = re.sub(r"\s+", " ", text)
    assert "bold it snake_case 2 * 3 < 4 & 5 > 1" in flat
    assert "**" not in flat
    assert "Title" in flat


async def test_a_growing_reply_ends_as_exactly_the_final_text(driver: Driver) -> None:
    async with running_channel(driver) as channel:
        final = outbound(driver, "One two, **three**.")
        await growing(channel, final, "One", "One two, **thr")
        assert driver.texts()[0].startswith("One")
        await channel.send(final)
    assert driver.texts() == ["One two, three."]


async def test_a_growing_reply_becomes_as_many_messages_as_it_needs(driver: Driver) -> None:
    text = "\n\n".join(letter * (driver.limit - 96) for letter in "abc")
    async with running_channel(driver) as channel:
        final = outbound(driver, text)
        await growing(channel, final, text[:100], text[: driver.limit * 2])
        assert len(driver.texts()) == 1
        await channel.send(final)
    assert [set(piece) for piece in driver.texts()] == [{"a"}, {"b"}, {"c"}]
    assert "".join(driver.texts()) == text.replace("\n", "")


async def test_a_retry_goes_on_where_it_stopped(driver: Driver, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("notes")
    text = "\n\n".join(letter * (driver.limit - 96) for letter in "abc")
    message = outbound(driver, text, attachments=(Attachment(str(notes), "notes.txt"),))
    async with running_channel(driver) as channel:
        sending = asyncio.create_task(channel.send(message))
        await driver.wait_for(lambda: driver.shown())
        driver.lose_next()
        with pytest.raises(ChannelError) as caught:
            await sending
        assert not caught.value.permanent
        receipt = await channel.send(message)
        assert await channel.send(message) == receipt
    assert [(shown.text[:1], shown.file) for shown in driver.shown()] == [
        ("a", ""), ("b", ""), ("c", ""), ("", "notes.txt")
    ]  # fmt: skip


async def test_too_many_requests_are_waited_for_as_long_as_asked(driver: Driver) -> None:
    driver.rate_limit(77)
    async with running_channel(driver) as channel:
        with pytest.raises(ChannelError) as caught:
            await channel.send(outbound(driver, "hi"))
        assert (caught.value.retry_after, caught.value.permanent) == (77.0, False)
        await channel.send(outbound(driver, "hi"))
    assert driver.texts() == ["hi"]


async def test_refused_markup_goes_out_as_plain_text(driver: Driver) -> None:
    if not driver.refuses_markup:
        pytest.skip(f"{driver.channel} shows any text")
    driver.refuse_markup()
    async with running_channel(driver) as channel:
        await channel.send(outbound(driver, "**bold** [link](https://e.org/x)"))
    assert driver.texts() == ["bold link (https://e.org/x)"]


async def test_files_go_out_after_the_text(driver: Driver, tmp_path: Path) -> None:
    files = []
    for name, data in {"a.txt": b"first", "b.bin": bytes(range(256))}.items():
        (tmp_path / name).write_bytes(data)
        files.append(Attachment(str(tmp_path / name), name))
    async with running_channel(driver) as channel:
        await channel.send(outbound(driver, "Here:", attachments=tuple(files)))
    assert [(shown.text, shown.file, shown.data) for shown in driver.shown()] == [
        ("Here:", "", b""), ("", "a.txt", b"first"), ("", "b.bin", bytes(range(256)))
    ]  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), [(b"", "it is empty"), (None, "No such file")])
async def test_a_file_that_cannot_go_out_is_noticed_before_anything_does(
    driver: Driver, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "file.txt"
    if content is not None:
        path.write_bytes(content)
    async with running_channel(driver) as channel:
        with pytest.raises(ChannelError, match=reason) as caught:
            await channel.send(outbound(driver, "look", attachments=(Attachment(str(path), "file.txt"),)))
    assert caught.value.permanent
    assert driver.shown() == []
