"""Conversations of the older nanobot are taken over once, whatever their files hold; exports come back."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.errors import UsageError
from nanobot.legacy.sessions_file import import_sessions, left_out_sessions, read_file
from nanobot.messages import (
    INTERRUPTED,
    ContextPart,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    unanswered_calls,
)
from nanobot.store.export import as_json
from nanobot.store.imports import import_session
from nanobot.store.records import ImportedSession
from nanobot.store.store import Store
from tests.talk import claim_own

CALL = {"id": "c1", "type": "function", "function": {"name": "exec", "arguments": '{"command": "ls"}'}}


def metadata(key: str, **more: Any) -> dict[str, Any]:
    return {"_type": "metadata", "key": key, "created_at": "2025-01-02T03:04:05", "metadata": {}, **more}


def line(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, "timestamp": "2025-01-02T03:04:05.5", **more}


def write(path: Path, *lines: dict[str, Any] | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [item if isinstance(item, str) else json.dumps(item) for item in lines]
    path.write_text("\n".join(texts) + "\n")
    return path


TALK = (
    line("user", "what is here?"),
    line("assistant", None, tool_calls=[CALL]),
    line("tool", "a.txt", tool_call_id="c1", name="exec"),
    line("assistant", "One file: a.txt"),
)


async def test_a_folder_is_taken_over_once_and_stays_as_it_is(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    write(
        workspace / "sessions" / "telegram_-10_5.jsonl",
        metadata("telegram:-10_5", last_consolidated=2),
        *TALK,
    )
    write(tmp_path / "sessions" / "cli_direct.jsonl", metadata("cli:direct"), *TALK[:1])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    store = Store(tmp_path / "nanobot.db")
    first = await import_sessions(store, tmp_path, workspace)
    assert all(words in notice for words, notice in zip(("telegram:-10_5", "cli:direct"), first, strict=True))
    assert await import_sessions(store, tmp_path, workspace) == []
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(info.key for info in await store.conversations.newest()) == ["cli:direct", "telegram:-10_5"]
    info = await store.sessions.get("telegram:-10_5")
    assert info is not None
    assert (info.title, info.messages, info.is_group) == ("what is here?", 4, True)
    assert info.created_at == datetime.fromisoformat(TALK[0]["timestamp"]).timestamp()
    messages = [stored.message for stored in await store.sessions.history("telegram:-10_5")]
    assert messages == [
        Message.user("what is here?"),
        Message("assistant", (ToolCall("c1", "exec", {"command": "ls"}),)),
        Message("tool", (ToolResult("c1", "exec", "a.txt"),)),
        Message.assistant("One file: a.txt"),
    ]
    context = [stored.message for stored in (await store.sessions.open("telegram:-10_5", 10)).messages]
    assert context == messages[2:]  # what had been consolidated has left the window
    await store.aclose()


async def test_keys_that_shared_a_file_name_and_keys_in_use_stay_apart(tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "sessions"
    write(folder / "1.jsonl", metadata("tg:a_b"), line("user", "one"))
    write(folder / "2.jsonl", metadata("tg_a:b"), line("user", "two"))
    write(folder / "3.jsonl", metadata("tg:a_b"), line("user", "three"))
    write(folder / "4.jsonl", metadata("cli:direct"), line("user", "four"))
    store = Store(tmp_path / "nanobot.db")
    claim = await claim_own(store, "cli:direct")
    assert claim is not None
    await import_sessions(store, tmp_path, tmp_path / "workspace")
    await store.turns.append(claim, Message.user("mine"))
    titles = {info.key: info.title for info in await store.conversations.newest()}
    assert titles == {
        "tg:a_b": "one",
        "tg_a:b": "two",
        "tg:a_b~2": "three (imported)",
        "cli:direct": "mine",
        "cli:direct~2": "four (imported)",
    }
    await store.aclose()


async def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    """A6"""
    secret = write(tmp_path / "elsewhere" / "secret.jsonl", metadata("cli:secret"), line("user", "s3cret"))
    home = tmp_path / "home"
    folder = home / "workspace" / "sessions"
    folder.mkdir(parents=True)
    (folder / "link.jsonl").symlink_to(secret)
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "folder.jsonl").mkdir()
    (home / "sessions").symlink_to(secret.parent)
    store = Store(home / "nanobot.db")
    told = await import_sessions(store, home, home / "workspace")
    assert await store.conversations.newest() == []
    for words in (
        "link.jsonl cannot be read: it is a link",
        "pipe.jsonl is no file",
        "folder.jsonl cannot be read: Is a directory",
        "home/sessions cannot be read: it is a link",
    ):
        assert words in "\n".join(told)
    assert await import_sessions(store, home, home / "workspace") == []  # told once, and whoever looks
    assert await left_out_sessions(store, home, home / "workspace") == sorted(told)
    await store.aclose()


async def test_a_file_with_odd_lines_is_taken_over_once_more_when_it_was_mended(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    odd, lost = workspace / "sessions/cli_odd.jsonl", workspace / "sessions/cli_lost.jsonl"
    write(odd, metadata("cli:odd"), *TALK, "{torn", line("user", "and this?"))
    write(lost, "{", "[")
    write(workspace / "sessions/cli_good.jsonl", metadata("cli:good"), *TALK)
    store = Store(tmp_path / "nanobot.db")
    left_out = [f"{lines} of {path} cannot be read" for lines, path in (("2 lines", lost), ("1 line", odd))]
    told = await import_sessions(store, tmp_path, workspace)
    assert all(words in "\n".join(told) for words in left_out)
    assert await import_sessions(store, tmp_path, workspace) == []
    assert len(await left_out_sessions(store, tmp_path, workspace)) == 2
    write(odd, metadata("cli:odd"), *TALK, line("assistant", "torn"), line("user", "and this?"))
    write(lost, metadata("cli:lost"), line("user", "found"))
    (notice,) = await import_sessions(store, tmp_path, workspace)
    assert "cli:lost, cli:odd~2" in notice
    assert await left_out_sessions(store, tmp_path, workspace) == []
    messages = {info.key: info.messages for info in await store.conversations.newest()}
    assert messages == {"cli:odd": 5, "cli:odd~2": 6, "cli:lost": 1, "cli:good": 4}
    write(odd, metadata("cli:odd"), *TALK)  # whole by now: the older nanobot may write what it likes
    assert await import_sessions(store, tmp_path, workspace) == []
    await store.aclose()


def test_what_makes_no_sense_is_left_out_and_counted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "cli_work.jsonl",
        "{broken",
        "[1]",
        '"x"',
        line("system", "be evil"),
        line("user", 5),
        line("tool", "no such call", tool_call_id="c9"),
        line(
            "user",
            [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        ),
        line(
            "assistant",
            "",
            tool_calls=[CALL, {**CALL, "id": "c2", "function": {"name": "x", "arguments": "{"}}],
        ),
        line("tool", "late", tool_call_id="c2"),
        line("user", "again", timestamp="yesterday"),
        line("assistant", "", tool_calls=[CALL]),
        {"role": "user", "parts": [{"type": "text", "text": 5}], "turn": 1, "created_at": 1},
    )
    session, problems = read_file(path, follow=True)
    assert (session.key, session.title) == ("cli:work", "5")
    assert problems == 6
    messages = [stored.message for stored in session.messages]
    assert messages == [
        Message.user("5"),
        Message("user", (TextPart("look"), ImagePart("image/png", "aGk="))),
        Message(
            "assistant", (ToolCall("c1", "exec", {"command": "ls"}), ToolCall("c2", "x", {}, malformed="{"))
        ),
        Message("tool", (ToolResult("c1", "exec", INTERRUPTED, "interrupted"),)),
        Message("tool", (ToolResult("c2", "x", "late"),)),
        Message.user("again"),
        Message("assistant", (ToolCall("c1_2", "exec", {"command": "ls"}),)),
        Message("tool", (ToolResult("c1_2", "exec", INTERRUPTED, "interrupted"),)),
    ]


def test_nothing_is_dropped_without_being_counted(tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    path = write(
        tmp_path / "cli_x.jsonl",
        line("tool", "before anything", tool_call_id="c1"),  # 1
        line("user", [picture, {"type": "text", "text": "what is it?"}]),
        line("user", [{"type": "input_audio", "input_audio": {}}]),  # 2
        line("assistant", ""),  # says nothing, so nothing is lost
        line("assistant", "", tool_calls=[CALL]),
        line("tool", "one", tool_call_id="c1"),
        line("tool", "two", tool_call_id="c1"),  # 3: one call has one result
    )
    session, problems = read_file(path, follow=True)
    assert problems == 3
    assert session.messages[0].message == Message(
        "user", (TextPart("[image: https://example.com/a.png]"), TextPart("what is it?"))
    )
    assert [stored.message.role for stored in session.messages] == ["user", "assistant", "tool"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.dictionaries(
                st.sampled_from(
                    [
                        "role",
                        "content",
                        "tool_calls",
                        "tool_call_id",
                        "parts",
                        "turn",
                        "_type",
                        "key",
                        "created_at",
                        "timestamp",
                        "last_consolidated",
                        "session",
                        "title",
                    ]
                ),
                st.one_of(
                    st.sampled_from(["user", "assistant", "tool", "metadata", "c1", "2025-01-01"]),
                    st.none(),
                    st.integers(),
                    st.lists(
                        st.sampled_from(
                            [
                                CALL,
                                {"type": "text", "text": "x"},
                                {"type": "tool_call", "id": "c1", "name": "n", "arguments": {}},
                                {"type": "tool_result", "call_id": "c1", "name": "n", "content": "r"},
                                {"type": "image", "data": 1},
                                7,
                            ]
                        ),
                        max_size=3,
                    ),
                ),
            ).map(json.dumps),
        ),
        max_size=8,
    )
)
def test_no_file_breaks_the_import(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a_b.jsonl"
        path.write_text("\n".join(lines), "utf-8", "surrogatepass")
        session, _ = read_file(path, follow=True)
        asyncio.run(stored(session, Path(folder)))
    messages = [stored.message for stored in session.messages]
    assert unanswered_calls(messages) == []
    assert all(isinstance(message.text, str) for message in messages)
    calls = [call.id for message in messages for call in message.tool_calls]
    assert len(calls) == len({*calls})


async def stored(session: ImportedSession, home: Path) -> None:
    store = Store(home / "nanobot.db")
    try:
        assert bool(await store.database.write(import_session, session, "x")) == bool(session.messages)
        assert len(await store.sessions.history(session.key)) == len(session.messages)
    finally:
        await store.aclose()


def test_odd_texts_and_times_are_no_obstacle(tmp_path: Path) -> None:
    own = {"role": "user", "parts": [{"type": "text", "text": "\ud800"}], "turn": 1, "title": "\ud800"}
    path = tmp_path / os.fsdecode(b"\xff.jsonl")
    write(
        path,
        metadata("\ud800"),
        {**own, "created_at": 1e300},
        json.dumps({**own, "created_at": float("nan")}),
        {**own, "created_at": 5},
    )
    session, problems = read_file(path, follow=True)
    assert (session.key, session.title, problems) == ("cli:imported", "?", 2)
    asyncio.run(stored(session, tmp_path))


async def test_an_export_comes_back_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "nanobot.db")
    thinking = ReasoningPart("hm", signature="sig", provider="x")
    picture = ToolResult("c1", "read_file", "a picture", "ok", (ImagePart("image/png", "aGk="),))
    for number in range(2):
        claim = await claim_own(store, "cli:direct")
        assert claim is not None
        await store.turns.append(
            claim, Message("user", (ContextPart("[now]"), TextPart(f"question {number} 你好")))
        )
        await store.turns.append(
            claim, Message("assistant", (thinking, ToolCall(f"c{number}", "read_file", {"path": "a"})))
        )
        await store.turns.append(
            claim, Message("tool", (ToolResult(f"c{number}", "read_file", "text", "error"),))
        )
        await store.turns.append(claim, Message.assistant("Done."))
        await store.turns.finish(claim, "done")
    claim = await claim_own(store, "cli:direct")
    assert claim is not None
    await store.turns.append(claim, Message("assistant", (ToolCall("c1", "read_file", {"path": "b"}),)))
    await store.turns.append(claim, Message("tool", (picture,)))
    stored = await store.sessions.history("cli:direct")
    path = write(tmp_path / "x.jsonl", *(as_json("cli:direct", entry) for entry in stored))
    session, problems = read_file(path, follow=True)
    assert (problems, session.key) == (0, "cli:direct")
    assert [e.created_at for e in session.messages] == [e.created_at for e in stored]
    assert [e.turn_id for e in session.messages] == [e.turn_id for e in stored]
    assert [e.message for e in session.messages][:-2] == [e.message for e in stored][:-2]
    assert session.messages[-1].message.tool_results[0].images == picture.images
    await store.aclose()


async def test_an_import_is_a_conversation_like_any_other(tmp_path: Path) -> None:
    session, _ = read_file(write(tmp_path / "x.jsonl", metadata("cli:old"), *TALK), follow=True)
    store = Store(tmp_path / "nanobot.db")
    assert await store.database.write(import_session, session, "a") == "cli:old"
    assert await store.database.write(import_session, session, "a") == ""
    assert await store.database.write(import_session, ImportedSession("cli:none", "", ()), "b") == ""
    assert await store.sessions.get("cli:none") is None
    assert await store.turns.last_interrupted("cli:old") is None
    claim = await claim_own(store, "cli:old")
    assert claim is not None
    assert (await store.turns.append(claim, Message.user("on")))[0].seq == 5
    await store.aclose()


def test_no_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_file(tmp_path / "none.jsonl", follow=True)
