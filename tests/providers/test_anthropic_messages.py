"""The Anthropic Messages wire: what requests look like, and how answers are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from nanobot.errors import (
    AuthError,
    BrokenStreamError,
    ContextTooLongError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
)
from nanobot.messages import (
    ContextPart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    message_to_json,
)
from nanobot.providers.anthropic_messages import AnthropicMessagesProvider, AnthropicReader
from nanobot.providers.base import (
    Completion,
    ModelEvent,
    ModelRequest,
    ModelTraits,
    ReasoningChunk,
    TextChunk,
)
from nanobot.providers.registry import ProviderSpec, find_spec
from tests.providers.calling import TIME, WEATHER, Waits, ask, collect, fast_settings
from tests.providers.conversations import PIXEL, damaged, long_conversation, requests_of, tool
from tests.providers.loopback import (
    RESET,
    Answer,
    Loopback,
    Request,
    anthropic_events,
    anthropic_stream,
    json_answer,
    sse,
)
from tests.providers.wire_rules import check_anthropic_request

KEY = "sk-ant-0123456789abcdef"
MODEL = "anthropic/claude-sonnet-4-5"
MARK = {"cache_control": {"type": "ephemeral"}}


def anthropic() -> ProviderSpec:
    spec = find_spec("anthropic")
    assert spec is not None
    return spec


def provider_at(url: str, **changes: Any) -> AnthropicMessagesProvider:
    return AnthropicMessagesProvider(
        anthropic(), api_key=KEY, api_base=url, settings=fast_settings(Waits(), **changes)
    )


def body_of(messages: Sequence[Message], *, model: str = MODEL, sees: bool = True) -> dict[str, Any]:
    """The request body, checked against the public rules."""
    provider = AnthropicMessagesProvider(anthropic(), traits=ModelTraits(supports_images=sees))
    body = provider.body(ModelRequest(model, "You are terse.", messages, (WEATHER, TIME), 100, 0.1))
    content = json.dumps(body).encode()
    return check_anthropic_request(
        Request("POST", "/v1/messages", {"anthropic-version": "2023-06-01"}, content)
    )


# --- requests ------------------------------------------------------------------------------------


def test_a_small_request_in_full() -> None:
    assert body_of([Message.user("hello")]) == {
        "model": "claude-sonnet-4-5",
        "stream": True,
        "max_tokens": 100,
        "temperature": 0.1,
        "tools": [
            {
                "name": "get_weather",
                "description": WEATHER.description,
                "input_schema": dict(WEATHER.parameters),
            },
            {
                "name": "get_time",
                "description": TIME.description,
                "input_schema": dict(TIME.parameters),
                **MARK,
            },
        ],
        "system": [{"type": "text", "text": "You are terse.", **MARK}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello", **MARK}]}],
    }


def test_results_come_first_in_one_user_message() -> None:
    messages = [
        Message.user("x"),
        Message.assistant("Looking.", ToolCall("call:1", "a", {"x": 1}), ToolCall("c2", "b", {})),
        tool(ToolResult("call:1", "a", "one", images=(PIXEL,))),
        tool(ToolResult("c2", "b", "", "error")),
        Message("user", (TextPart("more"), ContextPart("It is noon."))),
    ]
    _, assistant, results = body_of(messages)["messages"]
    text, first, _ = assistant["content"]
    assert text == {"type": "text", "text": "Looking."}
    assert first["input"] == {"x": 1}
    assert results["content"][0]["tool_use_id"] == first["id"] != "call:1"
    assert [block["type"] for block in results["content"][0]["content"]] == ["text", "image"]
    assert results["content"][1]["is_error"] is True
    assert results["content"][1]["content"][0]["text"] == "(empty)"
    assert [block["text"] for block in results["content"][2:]] == ["more", "It is noon."]


def test_own_thinking_goes_back_byte_for_byte() -> None:
    signature = "EqQBCg+/=="
    messages = [
        Message.user("x"),
        Message(
            "assistant",
            (
                ReasoningPart(" Let me\n think… ", signature=signature, provider="anthropic"),
                ReasoningPart("", redacted="EmwKAhgB", provider="anthropic"),
                TextPart("I will look."),
                ReasoningPart("unsigned", provider="anthropic"),
                ReasoningPart("foreign", signature="s", provider="openrouter"),
                ToolCall("c1", "a", {}),
            ),
        ),
        tool(ToolResult("c1", "a", "r")),
    ]
    content = body_of(messages)["messages"][1]["content"]
    assert content[0] == {"type": "thinking", "thinking": " Let me\n think… ", "signature": signature}
    assert content[1] == {"type": "redacted_thinking", "data": "EmwKAhgB"}
    assert [block["type"] for block in content[2:]] == ["text", "tool_use"]


def test_roles_alternate_whatever_the_history() -> None:
    messages = [
        Message.assistant("cut"),
        Message.assistant(" "),
        Message.user(" "),
        Message.user("b"),
        Message.assistant("c"),
    ]
    roles = [message["role"] for message in body_of(messages)["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert body_of([])["messages"][0]["role"] == "user"


def test_images() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL.data}
    block = body_of([Message.user("look", PIXEL)])["messages"][0]["content"][1]
    assert block == {"type": "image", "source": source, **MARK}
    blind = body_of([Message.user("look", PIXEL)], sees=False)["messages"][0]["content"][1]
    assert blind["text"] == "(image omitted: this model cannot see)"


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-opus-4-5", True),
        ("claude-3-5-haiku-latest", True),
        ("claude-opus-4-7", False),
        ("claude-sonnet-5", False),
    ],
)
def test_newer_models_refuse_a_temperature(model: str, sent: bool) -> None:
    assert ("temperature" in body_of([Message.user("x")], model=model)) is sent


def test_consecutive_requests_share_their_prefix_byte_for_byte() -> None:
    previous = ""
    for messages in requests_of(long_conversation("anthropic")):
        text = json.dumps(body_of(messages)).replace(', "cache_control": {"type": "ephemeral"}', "")
        text = text.removesuffix("]}]}")  # the newest user message may grow by the next one
        assert text.startswith(previous)
        assert len(text) > len(previous)
        previous = text


def test_the_older_cache_mark_is_where_the_last_request_put_its_newest() -> None:
    def marked(messages: Sequence[Message]) -> list[int]:
        written = body_of(messages)["messages"]
        return [index for index, message in enumerate(written) if "cache_control" in json.dumps(message)]

    conversation = [Message.user("a"), Message.assistant("b"), Message.user("c"), Message.assistant("d")]
    assert marked(conversation[:1]) == [0]
    assert marked(conversation[:3]) == [0, 2]
    assert marked([*conversation, Message.user("e")]) == [2, 4]


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (None, "https://api.anthropic.com/v1/messages"),
        ("https://a.test", "https://a.test/v1/messages"),
        ("https://a.test/anthropic/v1/", "https://a.test/anthropic/v1/messages"),
        ("https://a.test/v1/messages", "https://a.test/v1/messages"),
    ],
)
def test_where_requests_go(base: str | None, url: str) -> None:
    assert AnthropicMessagesProvider(anthropic(), api_base=base).url() == url


# --- answers -------------------------------------------------------------------------------------


def read(*events: Any) -> tuple[list[ModelEvent], Completion]:
    reader = AnthropicReader(AnthropicMessagesProvider(anthropic()).failures, ask(), "anthropic")
    shown = [shown for event in events for shown in reader.feed(json.dumps(event))]
    return shown, reader.completion()


def test_thinking_text_and_parallel_calls() -> None:
    calls = [("toolu_1", "get_weather", '{"city": "Oslo"}'), ("toolu_2", "get_time", "")]
    shown, completion = read(*anthropic_events("Look.", thinking=[("Hmm", "sig==")], calls=calls))
    assert shown == [ReasoningChunk("Hmm"), TextChunk("Look.")]
    assert completion.finish_reason == "tool_calls"
    assert completion.message.parts == (
        ReasoningPart("Hmm", signature="sig==", provider="anthropic"),
        TextPart("Look."),
        ToolCall("toolu_1", "get_weather", {"city": "Oslo"}),
        ToolCall("toolu_2", "get_time", {}),
    )


def test_redacted_thinking_is_kept() -> None:
    events = anthropic_events("ok")
    start = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "redacted_thinking", "data": "EmwK"},
    }
    shifted = [{**event, "index": event["index"] + 1} if "index" in event else event for event in events]
    message = read(shifted[0], start, *shifted[1:])[1].message
    assert message.parts == (ReasoningPart("", redacted="EmwK", provider="anthropic"), TextPart("ok"))


@pytest.mark.parametrize(
    ("stop", "reason", "calls"),
    [
        ("end_turn", "tool_calls", 1),
        ("tool_use", "tool_calls", 1),
        ("max_tokens", "length", 0),
        ("model_context_window_exceeded", "length", 0),
        ("refusal", "refusal", 0),
    ],
)
def test_tool_calls_count_only_when_the_model_finished_them(stop: str, reason: str, calls: int) -> None:
    completion = read(*anthropic_events("Look.", calls=[("t1", "a", '{"x": 1}')], stop=stop))[1]
    assert completion.finish_reason == reason
    assert len(completion.message.tool_calls) == calls
    assert completion.message.text == "Look."


def test_arguments_that_are_no_object() -> None:
    (call,) = read(*anthropic_events(calls=[("t1", "a", '{"x": ')]))[1].message.tool_calls
    assert (call.arguments, call.malformed) == ({}, '{"x": ')


def test_input_includes_cached_tokens() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 30,
        "output_tokens": 7,
    }
    assert read(*anthropic_events("ok", usage=usage))[1].usage == Usage(240, 7, 200, 30)


def test_unknown_events_and_blocks_are_ignored() -> None:
    new = [
        {"type": "brand_new", "x": 1},
        {"type": "content_block_start", "index": 9, "content_block": {"type": "server_tool_use", "id": "s"}},
        {"type": "content_block_delta", "index": 9, "delta": {"type": "brand_new_delta"}},
    ]
    start, *rest = anthropic_events("ok")
    assert read(start, *new, *rest)[1].message == Message.assistant("ok")


def test_a_stream_cut_anywhere_is_broken() -> None:
    events = anthropic_events("Look.", thinking=[("Hm", "s")], calls=[("t1", "a", '{"x": 1}')])
    for cut in range(len(events)):
        with pytest.raises(BrokenStreamError):
            read(*events[:cut])


@settings(max_examples=300)
@given(damaged(anthropic_events("Hi", thinking=[("Hm", "s")], calls=[("t1", "a", '{"x": 1}')])))
def test_whatever_a_server_sends_comes_to_an_answer_or_a_provider_error(events: list[Any]) -> None:
    with contextlib.suppress(ProviderError):
        assert message_to_json(read(*events)[1].message)


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with Loopback() as loopback:
        yield loopback


async def test_headers_and_a_whole_call(server: Loopback) -> None:
    server.enqueue(anthropic_stream("Grüße 🙂"))
    provider = provider_at(server.url)
    answer = await collect(provider, ask(model=MODEL, tools=(WEATHER,)))
    await provider.aclose()
    assert answer.shown == "Grüße 🙂"
    (request,) = server.requests
    check_anthropic_request(request)
    assert request.headers["x-api-key"] == KEY
    assert "authorization" not in request.headers


async def test_an_answer_that_is_no_stream_is_read_as_a_whole(server: Loopback) -> None:
    content: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "Hm", "signature": "s"},
        {"type": "text", "text": "Look."},
        {"type": "tool_use", "id": "t1", "name": "a", "input": {"x": 1}},
    ]
    usage = {"input_tokens": 3, "output_tokens": 2}
    body = {"type": "message", "content": content, "stop_reason": "tool_use", "usage": usage}
    server.enqueue(json_answer(body), json_answer({**body, "stop_reason": None}))
    provider = provider_at(server.url, max_retries=0)
    collected = await collect(provider, ask(model=MODEL))
    assert collected.shown == "Look."
    (call,) = collected.completion.message.tool_calls
    assert (call.id, call.name, call.arguments) == ("t1", "a", {"x": 1})
    assert collected.completion.usage == Usage(3, 2)
    with pytest.raises(BrokenStreamError):  # it does not say why it ends
        await collect(provider, ask(model=MODEL))
    await provider.aclose()


@pytest.mark.parametrize(
    ("status", "kind_on_wire", "message", "error"),
    [
        (401, "authentication_error", "invalid x-api-key", AuthError),
        (403, "permission_error", "no", AuthError),
        (400, "invalid_request_error", "Your credit balance is too low to access", QuotaError),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 208310 tokens > 200000 maximum",
            ContextTooLongError,
        ),
        (413, "request_too_large", "Request exceeds the maximum size", ContextTooLongError),
        (429, "rate_limit_error", "slow", RateLimitError),
        (500, "api_error", "x", OverloadedError),
        (529, "overloaded_error", "Overloaded", OverloadedError),
    ],
)
@pytest.mark.parametrize("in_stream", [False, True])
async def test_errors_before_and_inside_of_the_stream(
    server: Loopback,
    status: int,
    kind_on_wire: str,
    message: str,
    error: type[ProviderError],
    in_stream: bool,
) -> None:
    body = {"type": "error", "error": {"type": kind_on_wire, "message": message}}
    opening = sse(*anthropic_events("Hello")[:4], names=True)
    server.enqueue(Answer([*opening, *sse(body, names=True)]) if in_stream else json_answer(body, status))
    provider = provider_at(server.url, max_retries=0)
    with pytest.raises(ProviderError) as caught:
        await collect(provider, ask(model=MODEL))
    await provider.aclose()
    assert type(caught.value) is error
    assert "Anthropic" in str(caught.value)


async def test_overload_inside_of_a_stream_is_tried_again_without_the_half_answer(server: Loopback) -> None:
    opening = sse(*anthropic_events("Hello")[:4], names=True)
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    cut = sse(*anthropic_events(calls=[("t1", "get_time", "")])[:3], names=True)
    server.enqueue(
        Answer([*opening, *sse(overloaded, names=True)]), Answer([*cut, RESET]), anthropic_stream("Whole.")
    )
    provider = provider_at(server.url)
    answer = await collect(provider, ask(model=MODEL, tools=(TIME,)))
    await provider.aclose()
    assert [retry.discard for retry in answer.retries] == [True, False]
    assert answer.shown == "Whole."
    assert answer.completion.message == Message.assistant("Whole.")


def test_no_cache_marks_where_the_row_says_no() -> None:
    provider = AnthropicMessagesProvider(replace(anthropic(), cache_control=False))
    assert "cache_control" not in json.dumps(provider.body(ask(tools=(TIME,))))
