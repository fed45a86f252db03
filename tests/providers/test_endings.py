"""Streams of usual servers, in every usual ending: the answer arrives whole, and its calls are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.errors import BrokenStreamError, OverloadedError, ProviderError
from nanobot.providers.base import Completion, TextChunk
from nanobot.providers.chat_completions import ChatCompletionsProvider, ChatReader
from nanobot.providers.registry import ProviderSpec
from nanobot.providers.transport import EventParser
from tests.providers.calling import TIME, WEATHER, ask
from tests.providers.loopback import chat_chunk

SPEC = ProviderSpec(name="acme", keywords=("acme",), env_key="ACME_API_KEY", display_name="Acme")
USAGE = {"prompt_tokens": 9, "completion_tokens": 4}
TEXT = [
    chat_chunk({"role": "assistant", "content": ""}),
    chat_chunk({"content": "Su"}),
    chat_chunk({"content": "n"}),
]
EMPTY = {**chat_chunk(), "choices": []}


def with_finish(events: list[Any], finish: Any) -> list[Any]:
    """The same with this `finish_reason` in every chunk."""
    return [
        {**event, "choices": [{**choice, "finish_reason": finish} for choice in event["choices"]]}
        for event in events
    ]


def calls(*pieces: dict[str, Any], finish: str = "tool_calls") -> list[Any]:
    return [*(chat_chunk({"tool_calls": [piece]}) for piece in pieces), chat_chunk(finish=finish)]


ENDINGS: dict[str, list[Any]] = {
    "OpenAI": [*TEXT, chat_chunk(finish="stop"), {**EMPTY, "usage": USAGE}, "[DONE]"],
    "no [DONE]": [*TEXT, chat_chunk(finish="stop")],
    "Azure": [{**EMPTY, "prompt_filter_results": []}, *TEXT, chat_chunk(finish="stop"), "[DONE]"],
    "finish reason with the last words": [*TEXT[:-1], chat_chunk({"content": "n"}, "stop"), "[DONE]"],
    "finish reason without choices": [*TEXT, {**EMPTY, "finish_reason": "stop", "usage": USAGE}],
    "usage only": [*TEXT, {**EMPTY, "usage": USAGE}, "[DONE]"],
    "empty finish reasons, then one": [*with_finish(TEXT, ""), chat_chunk(finish="stop")],
    "empty finish reasons and [DONE]": [*with_finish(TEXT, ""), "[DONE]"],
    "null and [DONE]": [*TEXT, "[DONE]"],
    "no index": [{"choices": [{"delta": {"content": "Sun"}, "finish_reason": "stop"}]}],
    "index null": [{"choices": [{"index": None, "delta": {"content": "Sun"}, "finish_reason": "stop"}]}],
    "delta null": [*TEXT, {"choices": [{"index": 0, "delta": None, "finish_reason": "stop"}]}],
    "capitals": [*TEXT, chat_chunk(finish="STOP"), "[DONE]"],
    "eos": [*TEXT, chat_chunk(finish="eos")],
    "a whole answer": [
        {"choices": [{"message": {"content": "Sun"}, "finish_reason": "stop"}], "usage": USAGE}
    ],
}
NO_ENDINGS: dict[str, list[Any]] = {
    "nothing": TEXT,
    "empty finish reasons": with_finish(TEXT, ""),
    "usage in the middle": [{**EMPTY, "usage": USAGE}, *TEXT],
}
HEAD = {"index": 0, "id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
CITY = '{"city": "Oslo"}'
CALLS: dict[str, list[Any]] = {
    "OpenAI": calls(HEAD, {"index": 0, "function": {"arguments": CITY}}),
    "stop": calls(HEAD, {"index": 0, "function": {"arguments": CITY}}, finish="stop"),
    "no index": calls({"id": "c1", "function": {"name": "get_weather"}}, {"function": {"arguments": CITY}}),
    "no index, no id": calls({"function": {"name": "get_weather", "arguments": CITY}}),
    "an object": calls({"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}),
    "name again, no id": calls(
        {"function": {"name": "get_weather", "arguments": '{"city": '}},
        {"function": {"name": "get_weather", "arguments": '"Oslo"}'}},
    ),
    "LiteLLM": calls(HEAD, *({"index": 0, "function": {"arguments": given}} for given in ("{}", CITY))),
    "quoted twice": calls(HEAD, {"index": 0, "function": {"arguments": json.dumps(CITY)}}),
    "older": [chat_chunk({"function_call": {"name": "get_weather", "arguments": CITY}}, "function_call")],
    "a whole answer": [
        {"choices": [{"message": {"content": None, "tool_calls": [{**HEAD, "function": {"name": "get_weather",
         "arguments": CITY}}]}, "finish_reason": "tool_calls"}]}
    ],
}  # fmt: skip


def stream(events: list[Any], line_end: str = "\n", space: str = " ") -> bytes:
    data = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data:{space}{one}{line_end}{line_end}" for one in data).encode()


def read(raw: bytes, size: int = 1_000_000) -> tuple[str, Completion]:
    """The text that is shown, and the answer."""
    parser, reader = (
        EventParser(),
        ChatReader(ChatCompletionsProvider(SPEC).failures, ask(tools=(WEATHER, TIME)), "a"),
    )
    chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
    data = [one for chunk in chunks for one in parser.feed(chunk)]
    shown = [event for one in [*data, *parser.close()] for event in reader.feed(one)]
    shown += reader.end()
    return "".join(event.text for event in shown if isinstance(event, TextChunk)), reader.completion()


WRAPPINGS: dict[str, Callable[[list[Any]], bytes]] = {
    "plain": stream,
    "CRLF": lambda events: stream(events, "\r\n"),
    "CR": lambda events: stream(events, "\r"),
    "BOM": lambda events: b"\xef\xbb\xbf" + stream(events),
    "no space": lambda events: stream(events, space=""),
    "comments": lambda events: (
        b": OPENROUTER PROCESSING\n\n" + stream(events).replace(b"\n\n", b"\n\n: ping\n\n")
    ),
    "names": lambda events: stream(events).replace(b"data:", b"event: message\nid: 1\ndata:"),
    "no empty line at the end": lambda events: stream(events)[:-1],
}


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("events", ENDINGS.values(), ids=ENDINGS)
def test_every_usual_ending_gives_the_answer(events: list[Any], wrap: Any, size: int) -> None:
    shown, completion = read(wrap(events), size)
    assert (shown, completion.message.text, completion.finish_reason) == ("Sun", "Sun", "stop")


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("events", CALLS.values(), ids=CALLS)
def test_every_usual_form_of_a_call_is_made(events: list[Any], wrap: Any) -> None:
    _, completion = read(wrap(events))
    (call,) = completion.message.tool_calls
    assert (call.name, call.arguments, call.malformed) == ("get_weather", {"city": "Oslo"}, "")


def test_calls_of_gemini_that_all_have_the_same_index() -> None:
    pieces = [
        {"index": 0, "id": "", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}},
        {"index": 0, "id": "", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}},
        {"index": 0, "id": "", "function": {"name": "get_time", "arguments": "{}"}},
    ]
    made = read(stream(calls(*pieces)))[1].message.tool_calls
    assert [(call.name, dict(call.arguments)) for call in made] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_weather", {"city": "Rome"}),
        ("get_time", {}),
    ]


@pytest.mark.parametrize("events", NO_ENDINGS.values(), ids=NO_ENDINGS)
def test_what_ends_without_a_word_is_broken_and_calls_nothing(events: list[Any]) -> None:
    call = chat_chunk({"tool_calls": [{**HEAD, "function": {"name": "get_time", "arguments": "{}"}}]})
    for cut in (events, [call, *events], [call, *events, "[DONE]"]):
        with pytest.raises(BrokenStreamError) as caught:
            read(stream(cut))
        assert caught.value.retryable


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"error": {"message": "no room", "code": 503}}\n\n',
        b'event: error\ndata: {"error": {"message": "no room", "type": "server_error"}}\n\n',
        b'{"error": {"message": "no room", "type": "overloaded_error"}}',
        b'\xef\xbb\xbf{\n\n"error": "no room"\n}\n',
        stream(
            [
                {
                    "error": {"code": 502, "message": "no room"},
                    "choices": [{"index": 0, "finish_reason": "error"}],
                }
            ]
        ),
    ],
)
def test_an_error_in_a_200_is_that_error(raw: bytes) -> None:
    for before in (b"", stream(TEXT)) if raw.startswith((b"data", b"event")) else (b"",):
        with pytest.raises(OverloadedError, match="no room"):
            read(before + raw)


@pytest.mark.parametrize("finish", ["RECITATION", "PROHIBITED_CONTENT", "content_filter", "SAFETY"])
def test_words_of_a_filter_are_a_refusal(finish: str) -> None:
    assert read(stream([chat_chunk(finish=finish)]))[1].finish_reason == "refusal"


@given(
    st.sampled_from(list({**ENDINGS, **CALLS}.values())),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.integers(1, 40),
    st.integers(0, 2_000),
)
def test_a_stream_cut_anywhere_is_whole_or_an_error(
    events: list[Any], line_end: str, size: int, cut: int
) -> None:
    raw = stream(events, line_end)
    try:
        completion = read(raw[:cut], size)[1]
    except ProviderError as caught:
        error: ProviderError | None = caught
    else:
        error = None
        assert completion.message == read(raw)[1].message
    assert error is None or error.retryable
