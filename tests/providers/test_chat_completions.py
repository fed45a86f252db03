"""The Chat Completions wire: what requests look like, and how answers are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.errors import BrokenStreamError, ProviderError
from nanobot.messages import (
    ContextPart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolDefinition,
    ToolResult,
    Usage,
    message_to_json,
)
from nanobot.providers.base import (
    Completion,
    ModelEvent,
    ModelRequest,
    ModelTraits,
    ReasoningChunk,
    TextChunk,
)
from nanobot.providers.chat_completions import ChatCompletionsProvider, ChatReader
from nanobot.providers.registry import ProviderSpec, find_spec
from tests.providers.calling import TIME, WEATHER, ask
from tests.providers.conversations import ANY_JSON, PIXEL, damaged, long_conversation, requests_of, tool
from tests.providers.loopback import Request, chat_chunk, chat_events
from tests.providers.wire_rules import check_chat_request

SPEC = ProviderSpec(name="acme", keywords=("acme",), env_key="ACME_API_KEY", display_name="Acme")


def row(name: str) -> ProviderSpec:
    spec = find_spec(name)
    assert spec is not None
    return spec


def body_of(
    spec: ProviderSpec,
    messages: Sequence[Message],
    *,
    model: str = "test-model",
    tools: tuple[ToolDefinition, ...] = (WEATHER,),
    **traits: Any,
) -> dict[str, Any]:
    """The request body, checked against the public rules."""
    known = ModelTraits(**traits) if traits else None
    provider = ChatCompletionsProvider(spec, api_base="https://a.test/v1", traits=known)
    request = ModelRequest(model, "You are terse.", messages, tools, 100, 0.1)
    content = json.dumps(provider.body(request)).encode()
    return check_chat_request(Request("POST", "/v1/chat/completions", {}, content))


# --- requests ------------------------------------------------------------------------------------


def test_a_small_request_in_full() -> None:
    assert body_of(SPEC, [Message.user("hello")]) == {
        "model": "test-model",
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 100,
        "temperature": 0.1,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "description": "The weather in a city.",
                    "parameters": WEATHER.parameters,
                },
            }
        ],
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "hello"},
        ],
    }


def test_text_stays_beside_tool_calls() -> None:
    step = [
        Message.user("x"),
        Message.assistant("Looking.", ToolCall("c1", "get_weather", {"city": "Zürich"})),
        tool(ToolResult("c1", "get_weather", "sunny")),
    ]
    assistant = body_of(SPEC, step)["messages"][2]
    assert assistant["content"] == "Looking."
    assert assistant["tool_calls"][0]["function"] == {
        "name": "get_weather",
        "arguments": '{"city":"Zürich"}',
    }


def test_nothing_is_ever_empty() -> None:
    messages = [
        Message.user("   "),
        Message.assistant(""),
        Message.user("go"),
        Message.assistant("", ToolCall("c1", "get_time", {})),
        tool(ToolResult("c1", "get_time", " ")),
    ]
    contents = [message["content"] for message in body_of(SPEC, messages)["messages"][1:]]
    assert contents == ["(empty)", "(empty)", "go", None, "(empty)"]


def test_context_notes_are_text_after_the_words() -> None:
    user = Message("user", (TextPart("hi"), ContextPart("It is noon.")))
    assert body_of(SPEC, [user])["messages"][1]["content"] == "hi\n\nIt is noon."


def test_images_are_data_urls_and_those_of_tools_follow_the_whole_run() -> None:
    messages = [
        Message.user("look", PIXEL),
        Message.assistant("", ToolCall("c1", "a", {}), ToolCall("c2", "b", {})),
        tool(ToolResult("c1", "a", "first", images=(PIXEL,))),
        tool(ToolResult("c2", "b", "second", images=(PIXEL,))),
    ]
    written = body_of(SPEC, messages)["messages"]
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL.data}"}}
    assert written[1]["content"] == [{"type": "text", "text": "look"}, image]
    assert [message["role"] for message in written] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert written[-1]["content"][1:] == [image, image]


def test_a_blind_model_is_told_about_images() -> None:
    messages = [
        Message.user("look", PIXEL),
        Message.assistant("", ToolCall("c1", "a", {})),
        tool(ToolResult("c1", "a", "a file", images=(PIXEL,))),
    ]
    written = body_of(SPEC, messages, supports_images=False)["messages"]
    note = "(image omitted: this model cannot see)"
    assert written[1]["content"] == f"look\n\n{note}"
    assert written[3]["content"] == f"a file\n{note}"
    assert len(written) == 4
    deepseek = body_of(row("deepseek"), messages, model="deepseek/deepseek-chat")["messages"]
    assert all(isinstance(message["content"], str | None) for message in deepseek)


def test_a_conversation_cut_at_the_front_still_starts_with_a_user() -> None:
    written = body_of(SPEC, [Message.assistant("Well."), Message.user("go")])["messages"]
    assert [message["role"] for message in written] == ["system", "user", "assistant", "user"]
    assert body_of(SPEC, [])["messages"][-1]["role"] == "user"


@pytest.mark.parametrize(
    ("model", "sent", "left_out"),
    [
        ("openai/gpt-5-mini", "max_completion_tokens", {"temperature", "max_tokens"}),
        ("gpt-5.1", "max_completion_tokens", {"temperature", "max_tokens"}),
        ("o1", "max_completion_tokens", {"temperature", "max_tokens"}),
        ("o4-mini", "max_completion_tokens", {"temperature", "max_tokens"}),
        ("moonshot/kimi-k2.5", "max_tokens", {"temperature"}),
        ("acme/olmo1-7b", "max_tokens", {"max_completion_tokens"}),
        ("acme/turbo-1", "max_tokens", {"max_completion_tokens"}),
    ],
)
def test_parameters_that_a_model_family_refuses(model: str, sent: str, left_out: set[str]) -> None:
    body = body_of(SPEC, [Message.user("x")], model=model)
    assert body[sent] == 100
    assert not left_out & set(body)
    assert ("temperature" in body) is ("temperature" not in left_out)


def test_overrides_of_the_provider_row() -> None:
    spec = replace(SPEC, model_overrides=(("kimi-k2.5", {"temperature": 1.0, "top_p": 0.9}),))
    body = body_of(spec, [Message.user("x")], model="kimi-k2.5-preview")
    assert (body["temperature"], body["top_p"]) == (1.0, 0.9)


def test_ids_are_replaced_alike_in_call_and_result() -> None:
    long = "call_" + "x" * 60
    messages = [
        Message.user("x"),
        Message.assistant("", ToolCall(long, "a", {}), ToolCall("ok:1", "b", {})),
        tool(ToolResult(long, "a", "r")),
        tool(ToolResult("ok:1", "b", "r")),
    ]
    written = body_of(SPEC, messages)["messages"]
    assert written[2]["tool_calls"][0]["id"] == written[3]["tool_call_id"] != long
    assert written[2]["tool_calls"][1]["id"] == "ok:1"
    mistral = body_of(replace(SPEC, tool_id_pattern="[a-zA-Z0-9]{9}"), messages)["messages"]
    assert all(len(call["id"]) == 9 and call["id"].isalnum() for call in mistral[2]["tool_calls"])


def test_consecutive_messages_of_one_role_become_one() -> None:
    messages = [
        Message.user("a"),
        Message.user("b", PIXEL),
        Message.assistant("c"),
        Message.assistant("d", ToolCall("c1", "t", {}), ToolCall("c2", "t", {})),
        tool(ToolResult("c1", "t", "r", images=(PIXEL,))),
        tool(ToolResult("c2", "t", "r")),
        Message.user("e"),
    ]
    written = body_of(SPEC, messages)["messages"]
    assert [message["role"] for message in written] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in written[1]["content"]] == ["text", "text", "image_url"]
    assert written[2]["content"] == "c\n\nd"
    assert written[2]["tool_calls"][0]["id"] == "c1"
    assert [part["type"] for part in written[5]["content"]] == ["text", "image_url", "text"]


def test_reasoning_goes_back_to_models_that_want_it() -> None:
    messages = [
        Message.user("x"),
        Message.assistant("a", ReasoningPart("own thought", provider="deepseek")),
        Message.user("y"),
        Message.assistant("b", ReasoningPart("foreign thought", provider="openai")),
        Message.user("z"),
    ]
    written = body_of(row("deepseek"), messages, model="deepseek/deepseek-reasoner")["messages"]
    assert (written[2]["reasoning_content"], written[4]["reasoning_content"]) == ("own thought", "")
    assert "thought" not in json.dumps(body_of(SPEC, messages)["messages"])


def test_openrouter_gets_its_reasoning_details_back() -> None:
    details = [{"type": "reasoning.encrypted", "data": "abc", "id": None, "index": 0}]
    thought = ReasoningPart("t", signature=json.dumps(details), provider="openrouter")
    messages = [Message.user("x"), Message.assistant("a", thought), Message.user("y")]
    written = body_of(row("openrouter"), messages, model="openrouter/google/gemini-3-pro")["messages"]
    assert written[2]["reasoning_details"] == details


def test_gemini_signatures() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
    messages = [
        Message.user("x"),
        Message.assistant("", ToolCall("c1", "a", {}, extra=signed), ToolCall("c2", "b", {})),
        tool(ToolResult("c1", "a", "r")),
        tool(ToolResult("c2", "b", "r")),
        Message.assistant("", ToolCall("c3", "a", {}), ToolCall("c4", "b", {})),
        tool(ToolResult("c3", "a", "r")),
        tool(ToolResult("c4", "b", "r")),
    ]
    written = body_of(row("gemini"), messages, model="gemini/gemini-3-pro-preview")["messages"]
    own, foreign = written[2]["tool_calls"], written[5]["tool_calls"]
    assert own[0]["extra_content"] == signed["extra_content"]
    assert "extra_content" not in own[1]
    placeholder = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert foreign[0]["extra_content"] == placeholder
    assert "extra_content" not in foreign[1]
    assert "extra_content" not in json.dumps(body_of(SPEC, messages))
    older = body_of(row("gemini"), messages, model="gemini-2.5-flash")["messages"]
    assert "extra_content" not in older[5]["tool_calls"][0]


def test_gemini_gets_a_plain_schema() -> None:
    parameters = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": False,
        "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
        "properties": {
            "count": {"type": ["integer", "null"], "exclusiveMinimum": 0, "multipleOf": 2},
            "kind": {"const": "file"},
            "level": {"enum": [1, 2, 3], "type": "integer"},
            "when": {"type": "string", "format": "uri"},
            "choice": {"oneOf": [{"type": "string"}, {"type": "null"}]},
            "node": {"$ref": "#/$defs/Node"},
            "tags": {"type": "array", "items": {"allOf": [{"type": "string"}]}, "uniqueItems": True},
        },
        "required": ["count", "gone"],
    }
    definition = ToolDefinition("t", "d", parameters)
    sent = body_of(row("gemini"), [Message.user("x")], tools=(definition,))["tools"][0]["function"]
    assert sent["parameters"] == {
        "type": "object",
        "properties": {
            "count": {"type": "integer", "nullable": True},
            "kind": {"enum": ["file"], "type": "string"},
            "level": {"type": "integer"},
            "when": {"type": "string"},
            "choice": {"type": "string", "nullable": True},
            "node": {"type": "object", "properties": {"next": {}}},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["count"],
    }
    assert (
        body_of(SPEC, [Message.user("x")], tools=(definition,))["tools"][0]["function"]["parameters"]
        == parameters
    )


def test_cache_marks_go_to_claude_through_openrouter_only() -> None:
    conversation = long_conversation("openrouter")
    claude = body_of(row("openrouter"), conversation, model="openrouter/anthropic/claude-sonnet-4.5")
    assert claude["model"] == "anthropic/claude-sonnet-4.5"
    marked = [
        index for index, message in enumerate(claude["messages"]) if "cache_control" in json.dumps(message)
    ]
    inputs = [
        index for index, message in enumerate(claude["messages"]) if message["role"] in ("user", "tool")
    ]
    assert marked == [0, *inputs[-2:]]
    for other in (
        body_of(row("openrouter"), conversation, model="openrouter/openai/gpt-5"),
        body_of(SPEC, conversation, model="claude-sonnet-4-5"),
    ):
        assert "cache_control" not in json.dumps(other)


PREFIX_CASES = [
    (SPEC, "test-model"),
    (row("openai"), "openai/gpt-5"),
    (row("deepseek"), "deepseek/deepseek-chat"),
    (row("gemini"), "gemini/gemini-3-pro"),
    (row("openrouter"), "openrouter/anthropic/claude-opus-4.5"),
    (row("openrouter"), "openrouter/moonshotai/kimi-k2"),
]


@pytest.mark.parametrize(("spec", "model"), PREFIX_CASES)
def test_consecutive_requests_share_their_prefix_byte_for_byte(spec: ProviderSpec, model: str) -> None:
    previous = ""
    for messages in requests_of(long_conversation(spec.name)):
        provider = ChatCompletionsProvider(spec, api_base="https://a.test/v1")
        request = ModelRequest(model, "You are terse.", messages, (WEATHER, TIME), 100, 0.1)
        content = json.dumps(provider.body(request))
        text = content.replace(', "cache_control": {"type": "ephemeral"}', "").removesuffix("]}")
        assert text.startswith(previous)
        assert len(text) > len(previous)
        previous = text


# --- answers -------------------------------------------------------------------------------------


def read(
    *events: Any, messages: Sequence[Message] = (Message.user("x"),)
) -> tuple[list[ModelEvent], Completion]:
    """What a stream of these events comes to."""
    provider = ChatCompletionsProvider(SPEC, api_base="https://a.test/v1")
    reader = ChatReader(provider.failures, replace(ask(), messages=messages), "acme")
    shown = [
        shown
        for event in events
        for shown in reader.feed(event if isinstance(event, str) else json.dumps(event))
    ]
    return shown, reader.completion()


def call_piece(arguments: Any = "", *, name: str = "", **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return chat_chunk({"tool_calls": [{**more, "function": function}]})


def calls_of(*events: Any, messages: Sequence[Message] = (Message.user("x"),)) -> tuple[ToolCall, ...]:
    completion = read(*events, chat_chunk(finish="tool_calls"), messages=messages)[1]
    assert completion.finish_reason == "tool_calls"
    return completion.message.tool_calls


def test_parallel_calls_in_interleaved_pieces() -> None:
    calls = calls_of(
        call_piece(name="a", index=0, id="c1"),
        call_piece(name="b", index=1, id="c2"),
        call_piece('{"x":', index=0),
        call_piece('{"y": 2}', index=1),
        call_piece(" 1}", index=0),
    )
    assert [(call.id, call.name, call.arguments) for call in calls] == [
        ("c1", "a", {"x": 1}),
        ("c2", "b", {"y": 2}),
    ]


@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_calls_of_servers_that_do_not_count(index: dict[str, int]) -> None:
    calls = calls_of(
        call_piece('{"x": 1}', name="a", id="c1", **index),
        call_piece('{"y": 2}', name="a", id="c2", **index),
    )
    assert [(call.id, call.arguments) for call in calls] == [("c1", {"x": 1}), ("c2", {"y": 2})]


def test_a_server_that_repeats_id_and_name_with_every_piece() -> None:
    calls = calls_of(
        call_piece('{"x":', name="a", index=0, id="c1"), call_piece(" 1}", name="a", index=0, id="c1")
    )
    assert [(call.id, call.name, call.arguments) for call in calls] == [("c1", "a", {"x": 1})]


@pytest.mark.parametrize(
    ("raw", "arguments", "malformed"),
    [
        ("", {}, ""),
        ("{}", {}, ""),
        (None, {}, ""),
        ({"x": 1}, {"x": 1}, ""),
        ("null", {}, ""),
        (' ""', {}, ""),
        ('"{\\"x\\": 1}"', {"x": 1}, ""),
        ('{}{"x": 1}', {"x": 1}, ""),
        ('{"x": "a\nb"}', {"x": "a\nb"}, ""),
        ('{"x": "\\ud800"}', {"x": "\ufffd"}, ""),
        ('{"x": ', {}, '{"x": '),
        ("[1]", {}, "[1]"),
        ('"text"', {}, '"text"'),
        ('{"x": NaN}', {}, '{"x": NaN}'),
        ('{"x": 1} trailing', {}, '{"x": 1} trailing'),
    ],
)
def test_arguments(raw: Any, arguments: dict[str, Any], malformed: str) -> None:
    (call,) = calls_of(call_piece(raw, name="a", index=0, id="c1"))
    assert (call.arguments, call.malformed) == (arguments, malformed)


@pytest.mark.parametrize(
    ("finish", "reason", "calls"),
    [
        ("stop", "tool_calls", 1),
        ("tool_calls", "tool_calls", 1),
        ("function_call", "tool_calls", 1),
        ("length", "length", 0),
        ("content_filter", "refusal", 0),
    ],
)
def test_tool_calls_count_only_when_the_model_finished_them(finish: str, reason: str, calls: int) -> None:
    events = chat_events("Working.", calls=[("c1", "a", '{"x": 1}')], finish=finish)
    completion = read(*events)[1]
    assert completion.finish_reason == reason
    assert len(completion.message.tool_calls) == calls
    assert completion.message.text == "Working."


@pytest.mark.parametrize("finish", ["error", "network_error", "insufficient_system_resource"])
def test_a_failed_model_is_an_error_worth_a_retry(finish: str) -> None:
    with pytest.raises(ProviderError) as caught:
        read(*chat_events("half", finish=finish))
    assert caught.value.retryable


def test_reasoning_under_either_name() -> None:
    for name in ("reasoning_content", "reasoning"):
        shown, completion = read(
            chat_chunk({name: "Hm", "content": None}), chat_chunk({name: "m."}), *chat_events("Yes")
        )
        assert shown[:2] == [ReasoningChunk("Hm"), ReasoningChunk("m.")]
        assert completion.message == Message(
            "assistant", (ReasoningPart("Hmm.", provider="acme"), TextPart("Yes"))
        )


def test_reasoning_details_are_joined_and_kept() -> None:
    part = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}
    secret = {"type": "reasoning.encrypted", "index": 1, "data": "abc", "summary": [{"a": 1}], "text": None}
    message = read(
        chat_chunk({"reasoning": "Let ", "reasoning_details": [{**part, "text": "Let "}]}),
        chat_chunk({"reasoning": "me", "reasoning_details": [{**part, "text": "me"}]}),
        chat_chunk({"reasoning_details": [{**part, "signature": "sig"}]}),
        chat_chunk({"reasoning_details": [secret]}),
        *chat_events("ok"),
    )[1].message
    thought = message.parts[0]
    assert isinstance(thought, ReasoningPart)
    assert thought.text == "Let me"
    assert json.loads(thought.signature) == [{**part, "text": "Let me", "signature": "sig"}, secret]


def test_gemini_signature_is_kept_with_its_call() -> None:
    extra = {"google": {"thought_signature": "c2ln"}}
    (call,) = calls_of(call_piece("{}", name="a", index=0, id="c1", extra_content=extra))
    assert call.extra == {"extra_content": extra}


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}], Usage(9, 4)),
        (
            [
                {
                    "choices": [],
                    "usage": {
                        "prompt_tokens": 9,
                        "completion_tokens": 4,
                        "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 2},
                        "completion_tokens_details": {"reasoning_tokens": 3},
                    },
                }
            ],
            Usage(9, 4, 5, 2, 3),
        ),
        (
            [chat_chunk(usage={"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 6})],
            Usage(9, 4, 6),
        ),
        (
            [chat_chunk(usage={"prompt_tokens": 9, "completion_tokens": 4, "cached_tokens": 7})],
            Usage(9, 4, 7),
        ),
        ([chat_chunk(x_groq={"usage": {"prompt_tokens": 9, "completion_tokens": 4}})], Usage(9, 4)),
        ([{"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 9}}]}], Usage(9)),
        ([chat_chunk(usage={"prompt_tokens": 1}), chat_chunk(usage={"prompt_tokens": 2})], Usage(2)),
        ([chat_chunk(usage=None)], Usage()),
        ([chat_chunk(usage={"prompt_tokens": 1, "cost": 0.0042})], Usage(1, cost=0.0042)),
        ([chat_chunk(usage={"prompt_tokens": 1, "cost": "much"})], Usage(1)),
        ([chat_chunk(usage={"prompt_tokens": "many", "completion_tokens": -1})], Usage()),
    ],
)
def test_usage_of_every_dialect(events: list[Any], usage: Usage) -> None:
    assert read(chat_chunk({"content": "a"}, finish="stop"), *events)[1].usage == usage


def test_only_the_first_choice_is_read() -> None:
    second = chat_chunk({"content": "other"})
    second["choices"][0]["index"] = 1
    assert read(second, *chat_events("mine"))[1].message.text == "mine"


def test_text_that_comes_as_parts_and_refusals() -> None:
    shown, completion = read(
        chat_chunk({"content": [{"type": "text", "text": "a"}, {"type": "image"}]}),
        chat_chunk({"refusal": "no"}, finish="stop"),
    )
    assert shown == [TextChunk("a"), TextChunk("no")]
    assert completion.message.text == "ano"


WHOLE = chat_events("Hi", calls=[("c1", "a", '{"x": 1}')], usage={"prompt_tokens": 1})
THOUGHT = chat_chunk({"reasoning": "m", "reasoning_details": [{"type": "reasoning.text", "text": "m"}]})


@settings(max_examples=300)
@given(damaged([THOUGHT, THOUGHT, *WHOLE]))
def test_whatever_a_server_sends_comes_to_an_answer_or_a_provider_error(events: list[Any]) -> None:
    with contextlib.suppress(ProviderError):
        assert message_to_json(read(*(json.dumps(event) for event in events))[1].message)


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=5), ANY_JSON, max_size=3))
def test_what_a_model_says_arrives_unchanged(text: str, arguments: dict[str, Any]) -> None:
    raw = json.dumps(arguments)
    completion = read(*chat_events(text, calls=[("c1", "a", raw)]))[1]
    assert completion.message.text == text
    (call,) = completion.message.tool_calls
    if not call.malformed:
        assert call.arguments == arguments


def test_a_stream_cut_anywhere_never_gives_tool_calls() -> None:
    events = chat_events("Looking.", calls=[("c1", "a", '{"x": 1}'), ("c2", "b", "{}")])
    end = next(index for index, event in enumerate(events) if event["choices"][0]["finish_reason"])
    for cut in range(end):
        reader = ChatReader(ChatCompletionsProvider(SPEC).failures, ask(), "acme")
        for event in events[:cut]:
            list(reader.feed(json.dumps(event)))
        with pytest.raises(BrokenStreamError):
            reader.completion()
