from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from nanobot.errors import ProviderError, RateLimitError, UsageError
from nanobot.messages import ContextPart, Message, ToolCall, ToolResult
from nanobot.providers.base import Completion, ModelEvent, ModelRequest, ReasoningChunk, TextChunk
from nanobot.providers.scripted import Reply, ScriptedProvider, scripted_from_file


def asking(*texts: str, model: str = "scripted/x") -> ModelRequest:
    return ModelRequest(
        model, "system", [Message.user(text, ContextPart("clock")) for text in texts], [], 100
    )


async def collect(provider: ScriptedProvider, request: ModelRequest) -> list[ModelEvent]:
    return [event async for event in provider.stream(request)]


async def answer(provider: ScriptedProvider, text: str) -> str:
    last = (await collect(provider, asking(text)))[-1]
    assert isinstance(last, Completion)
    return last.message.text


def script(folder: Path, content: object) -> Path:
    path = folder / "script.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


async def test_replies_in_order_then_says_that_none_is_left():
    provider = ScriptedProvider(["one", Reply(text="two")])
    assert [await answer(provider, "a"), await answer(provider, "b")] == ["one", "two"]
    with pytest.raises(ProviderError, match=r"no reply left for 'c' \(request 3\)"):
        await answer(provider, "c")
    assert [request.messages[-1].text for request in provider.requests] == ["a", "b", "c"]


async def test_a_function_answers():
    provider = ScriptedProvider(lambda request: request.messages[-1].text.upper())
    assert await answer(provider, "hi") == "HI"


async def test_chunks_reasoning_and_calls():
    call = ToolCall("", "read_file", {"path": "a"})
    provider = ScriptedProvider([Reply(chunks=["a", "b"], reasoning="hm", tool_calls=[call, call])])
    events = await collect(provider, asking("go"))
    assert events[:3] == [ReasoningChunk("hm"), TextChunk("a"), TextChunk("b")]
    last = events[-1]
    assert isinstance(last, Completion)
    assert (last.message.text, last.finish_reason) == ("ab", "tool_calls")
    assert [made.id for made in last.message.tool_calls] == ["call_1_0", "call_1_1"]
    assert last.usage.input_tokens > 0


async def test_when_keeps_concurrent_sessions_apart():
    provider = ScriptedProvider(
        [Reply(when="red", text="r1"), Reply(when="blue", text="b1"), Reply(when="red", text="r2")]
    )
    answers = await asyncio.gather(*(answer(provider, text) for text in ("blue", "red", "more red")))
    assert answers == ["b1", "r1", "r2"]


async def test_when_looks_at_the_user_not_at_tool_results():
    provider = ScriptedProvider([Reply(when="blue", text="no"), Reply(when="red", text="yes")])
    result = Message("tool", (ToolResult("1", "read_file", "blue"),))
    request = ModelRequest("m", "", [Message.user("red"), result], [], 10)
    assert (await collect(provider, request))[0] == TextChunk("yes")


async def test_loop_starts_again():
    provider = ScriptedProvider([Reply(when="a", text="1"), "2"], loop=True)
    assert [await answer(provider, text) for text in ("a", "b", "b", "a", "a")] == ["1", "2", "2", "1", "2"]


async def test_wait_holds_the_answer_back():
    release = asyncio.Event()
    provider = ScriptedProvider([Reply(text="late", wait=release)])
    events = provider.stream(asking("x"))
    assert await anext(events) == TextChunk("late")
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    assert not waiting.done()
    release.set()
    assert isinstance(await waiting, Completion)


async def test_a_file_with_everything(tmp_path: Path):
    path = script(
        tmp_path,
        {
            "replies": [
                {"tool_calls": [{"name": "exec", "arguments": {"command": "ls"}}]},
                {"tool_calls": [{"name": "exec", "arguments": '{"command'}]},
                {"text": "part", "error": "rate_limit", "message": "Slow down.", "retry_after": 2},
                {"text": "end", "finish_reason": "length", "usage": {"input_tokens": 7}},
            ],
            "traits": {"supports_images": False, "context_window": 999},
        },
    )
    provider = scripted_from_file(path)
    assert provider.traits("m").context_window == 999
    good, bad = [(await collect(provider, asking("x")))[-1] for _ in range(2)]
    assert isinstance(good, Completion)
    assert isinstance(bad, Completion)
    assert good.message.tool_calls[0].arguments == {"command": "ls"}
    assert bad.message.tool_calls[0].malformed == '{"command'
    with pytest.raises(RateLimitError, match=r"Slow down\.") as raised:
        await collect(provider, asking("x"))
    assert raised.value.retry_after == 2
    last = (await collect(provider, asking("x")))[-1]
    assert isinstance(last, Completion)
    assert (last.finish_reason, last.usage.input_tokens) == ("length", 7)


async def test_hang_ends_only_by_cancelling(tmp_path: Path):
    provider = scripted_from_file(script(tmp_path, {"replies": [{"text": "a", "hang": True}]}))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await collect(provider, asking("x"))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ({"replies": [{"txt": "a"}]}, "txt"),
        ({"replies": [{"error": "boom"}]}, "BoomError"),
        ({"replies": ["text"]}, "ValueError"),
        ({"replies": [{"tool_calls": [{}]}]}, "name"),
        ({"replies": [], "traits": {"x": 1}}, "x"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, content: object, fault: str):
    path = script(tmp_path, content)
    with pytest.raises(UsageError, match=fault) as raised:
        scripted_from_file(path)
    assert str(path) in str(raised.value)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(UsageError, match="No such file"):
        scripted_from_file(tmp_path / "none.json")
