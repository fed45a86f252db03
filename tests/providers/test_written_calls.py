"""Tool calls that arrive as text: run when they are an answer or end one, and fit a tool; else named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import ToolDefinition
from nanobot.providers.base import Completion, ReasoningChunk, TextChunk
from nanobot.providers.chat_completions import ChatCompletionsProvider, ChatReader
from nanobot.providers.registry import ProviderSpec
from tests.providers.calling import TIME, WEATHER, ask
from tests.providers.conversations import ANY_JSON
from tests.providers.loopback import chat_chunk, chat_events

SPEC = ProviderSpec(name="acme", keywords=("acme",), env_key="ACME_API_KEY", display_name="Acme")
PARIS = '{"city": "Paris"}'
HERMES = f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>'


def read(text: str, *, tools: tuple[ToolDefinition, ...] = (WEATHER, TIME), size: int = 5) -> Any:
    """The text that was shown, and the whole answer."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return read_events(
        [*(chat_chunk({"content": piece}) for piece in pieces), chat_chunk(finish="stop")], tools
    )


def read_events(events: list[Any], tools: tuple[ToolDefinition, ...]) -> tuple[str, Completion]:
    reader = ChatReader(ChatCompletionsProvider(SPEC).failures, ask(tools=tools), "acme")
    chunks = [chunk for event in events if event != "[DONE]" for chunk in reader.feed(json.dumps(event))]
    chunks += reader.end()
    return "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk)), reader.completion()


FORMS = {
    "Hermes, Qwen": HERMES,
    "Hermes without a closing tag": HERMES.removesuffix("</tool_call>"),
    "Llama": f'<|python_tag|>{{"name": "get_weather", "parameters": {PARIS}}}<|eom_id|>',
    "Llama, by function": f"<function=get_weather>{PARIS}</function>",
    "Mistral": f'[TOOL_CALLS] [{{"name": "get_weather", "arguments": {PARIS}}}]',
    "Mistral, newer": f"[TOOL_CALLS]get_weather[ARGS]{PARIS}",
    "Mistral, without separator": f"[TOOL_CALLS]get_weather{PARIS}",
    "Qwen3-Coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n"
    "</tool_call>",
    "GLM": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>",
    "MiniMax": '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>\n'
    "</invoke>\n</minimax:tool_call>",
    "Seed": "<seed:tool_call><function=get_weather><parameter=city>Paris</parameter></function>"
    "</seed:tool_call>",
    "the inner part": '<invoke name="get_weather"><parameter name="city">Paris</parameter></invoke>',
    "Kimi": "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
    f"<|tool_call_argument_begin|>{PARIS}<|tool_call_end|><|tool_calls_section_end|>",
    "DeepSeek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
    f"```json\n{PARIS}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "DeepSeek, newer": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
    f"{PARIS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    "Granite": f'<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}]',
    "Command R": f'<|START_ACTION|>[{{"tool_name": "get_weather", "parameters": {PARIS}}}]<|END_ACTION|>',
    "JSON": f'{{"name": "get_weather", "arguments": {PARIS}}}',
    "JSON in a list": f'[{{"name": "get_weather", "arguments": {PARIS}}}]',
    "JSON, fenced": f'```json\n{{"name": "get_weather", "arguments": {PARIS}}}\n```',
    "JSON, fenced without language": f'\n```\n{{"name": "get_weather", "parameters": {PARIS}}}\n```\n',
    "JSON as the API has it": '{"type": "function", "id": "x", "function": {"name": "get_weather", '
    f'"arguments": {json.dumps(PARIS)}}}}}',
    "after thinking": f"<think>It is Paris.</think>\n{HERMES}",
}


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_calls_of_every_common_form_are_made_and_not_shown(text: str, size: int) -> None:
    shown, completion = read(text, size=size)
    assert shown == completion.message.text == completion.note == ""
    assert completion.finish_reason == "tool_calls"
    (call,) = completion.message.tool_calls
    assert (call.name, call.arguments, call.malformed) == ("get_weather", {"city": "Paris"}, "")


def test_several_calls() -> None:
    calls = read(f'{HERMES}\n<tool_call>{{"name": "get_time"}}</tool_call>')[1].message.tool_calls
    assert [(call.name, call.arguments) for call in calls] == [
        ("get_weather", {"city": "Paris"}),
        ("get_time", {}),
    ]
    llama = f'{{"name": "get_weather", "parameters": {PARIS}}}; {{"name": "get_time", "parameters": {{}}}}'
    assert len(read(f"<|python_tag|>{llama}")[1].message.tool_calls) == 2


@pytest.mark.parametrize("arguments", ["null", '""', "{}", '"null"', '"{}"', '"\\"{}\\""'])
def test_arguments_that_mean_none(arguments: str) -> None:
    (call,) = read(f'<tool_call>{{"name": "get_time", "arguments": {arguments}}}</tool_call>')[
        1
    ].message.tool_calls
    assert (call.name, call.arguments, call.malformed) == ("get_time", {}, "")


def test_a_fence_within_an_argument_is_a_part_of_it() -> None:
    write = ToolDefinition("write", "Write.", {"type": "object", "properties": {"text": {"type": "string"}}})
    text = '{"name": "write", "arguments": {"text": "a\\n```json\\n{}\\n```\\n</tool_call> b"}}'
    (call,) = read(f"<tool_call>{text}</tool_call>", tools=(write,))[1].message.tool_calls
    assert call.arguments == {"text": "a\n```json\n{}\n```\n</tool_call> b"}


ANSWERS = {
    "JSON of its own": '{"name": "Ann", "age": 3}',
    "a list": '[1, 2, {"name": "get_weather"}]',
    "talks about JSON": f'A call looks like {{"name": "get_weather", "arguments": {PARIS}}}.',
    "a definition": '{"name": "get_time", "description": "The time.", "parameters": {"type": "object"}}',
    "an example in code": f"Like this:\n```json\n{FORMS['JSON']}\n```\nYou see?",
    "a marker in code": f"Models write:\n```\n{HERMES}\n```\nand so on.",
    "a marker in a sentence": "The marker `<tool_call>` begins a call.",
    "the name alone": "get_time",
    "the name with JSON": "get_time {}",
    "a link": "[TOOLS](https://a.test)",
    "HTML": "<table><tr><td>1</td></tr></table>",
    "code": "```python\nprint({})\n```",
}


@pytest.mark.parametrize("text", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_no_call_stays_as_it_is(text: str) -> None:
    shown, completion = read(text)
    assert shown == completion.message.text == text
    assert (completion.message.tool_calls, completion.finish_reason, completion.note) == ((), "stop", "")


MARKED = {
    name: text for name, text in FORMS.items() if text[0] in "<[" and not text.startswith(("[{", "<think"))
}
MARKED.pop("Hermes without a closing tag")
WORDS = "Let me look.\n\n```json\n{}\n```\nThe marker `<tool_call>` begins a call, [so] it <b>is</b>."


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("between", ["\n", "", " ", "\n" * 90])
@pytest.mark.parametrize("text", MARKED.values(), ids=MARKED)
def test_a_call_behind_words_is_made_and_only_the_words_are_shown(text: str, between: str, size: int) -> None:
    shown, completion = read(f"{WORDS}{between}{text}\n", size=size)
    assert shown == completion.message.text == WORDS
    assert (completion.finish_reason, completion.note) == ("tool_calls", "")
    (call,) = completion.message.tool_calls
    assert (call.name, call.arguments) == ("get_weather", {"city": "Paris"})


QUOTED = {
    "in a fence at the end": f"Models write:\n```\n{HERMES}\n```",
    "in a fence that stays open": f"Models write:\n~~~xml\n{HERMES}",
    "in a fence within a list": f"- so:\n  ````\n  ```\n  {HERMES}\n  ````",
    "in a quotation": f"The page says:\n> {HERMES}".replace("\n<", "\n> <").replace("\n{", "\n> {"),
    "in an indented block": "Models write:\n\n    " + HERMES.replace("\n", ""),
    "between quotation marks": f'They say "{HERMES}"',
    "in code in a sentence": f"They say `{HERMES}`",
    "JSON behind words": f"Like this: {FORMS['JSON']}",
    "fenced JSON behind words": f"Like this:\n{FORMS['JSON, fenced']}",
}


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("text", QUOTED.values(), ids=QUOTED)
def test_a_call_that_is_quoted_is_never_made(text: str, size: int) -> None:
    shown, completion = read(text, size=size)
    assert shown == completion.message.text == text
    assert (completion.message.tool_calls, completion.finish_reason, completion.note) == ((), "stop", "")


def test_words_in_front_of_a_marker_are_shown_at_once() -> None:
    reader = ChatReader(ChatCompletionsProvider(SPEC).failures, ask(tools=(WEATHER,)), "acme")
    pieces = ["Let me ", "look.\n<tool", "_call>"]
    shown = [list(reader.feed(json.dumps(chat_chunk({"content": piece})))) for piece in pieces]
    assert shown == [[TextChunk("Let me")], [TextChunk(" look.")], []]


TRIES = {
    "an unknown tool": HERMES.replace("get_weather", "get_whether"),
    "unknown arguments": HERMES.replace("city", "town"),
    "missing arguments": HERMES.replace(PARIS, "{}"),
    "broken JSON": HERMES.replace("}}", "}"),
    "text around it": f"I look it up.\n{HERMES}\nIt is sunny.",
    "no end behind words": f"I look it up.\n{HERMES.removesuffix('</tool_call>')}",
    "an unknown tool behind words": f"I look it up.\n{HERMES.replace('get_weather', 'get_whether')}",
    "unknown arguments behind words": f"I look it up.\n{HERMES.replace('city', 'town')}",
    "text behind it": f"{HERMES}\nIt is sunny.",
    "JSON that does not fit": FORMS["JSON"].replace("city", "town"),
}


@pytest.mark.parametrize("text", TRIES.values(), ids=TRIES)
def test_a_call_that_cannot_be_made_is_shown_and_named(text: str) -> None:
    shown, completion = read(text)
    assert shown == completion.message.text == text
    assert (completion.message.tool_calls, completion.finish_reason) == ((), "stop")
    assert "test-model wrote a tool call as text" in completion.note


def test_no_tools_no_calls() -> None:
    shown, completion = read(HERMES, tools=())
    assert (shown, completion.message.text, completion.note) == (HERMES, HERMES, "")


def test_beside_a_native_call_a_text_is_a_text() -> None:
    events = chat_events(HERMES, calls=[("c1", "get_time", "{}")])
    shown, completion = read_events(events, (WEATHER, TIME))
    assert shown == completion.message.text == HERMES
    assert [call.name for call in completion.message.tool_calls] == ["get_time"]


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_a_cut_answer_calls_nothing(finish: str) -> None:
    shown, completion = read_events(chat_events(HERMES, finish=finish), (WEATHER, TIME))
    assert (shown, completion.message.tool_calls) == (HERMES, ())


def test_words_that_cannot_begin_a_call_are_shown_at_once() -> None:
    reader = ChatReader(ChatCompletionsProvider(SPEC).failures, ask(tools=(WEATHER,)), "acme")
    first = list(reader.feed(json.dumps(chat_chunk({"content": "The weather"}))))
    assert first == [TextChunk("The weather")]


MARK = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "<function=",
        "get_time",
        "{}",
        "```json",
        "```",
        "\n",
        ",",
    ]
)


@given(st.lists(MARK | ANY_JSON.map(json.dumps), max_size=6))
def test_any_text_is_either_calls_or_shown_unchanged(parts: list[str]) -> None:
    text = "".join(parts)
    shown, completion = read(text)
    if completion.message.tool_calls:
        assert shown == completion.message.text
        assert text.startswith(shown)
        assert "<tool_call>" not in shown
        assert {call.name for call in completion.message.tool_calls} <= {"get_weather", "get_time"}
    else:
        assert shown == completion.message.text == text


def test_thinking_is_shown_as_thinking_before_a_written_call() -> None:
    events = [chat_chunk({"content": f"hm</think>{HERMES}"}), chat_chunk(finish="stop")]
    reader = ChatReader(ChatCompletionsProvider(SPEC).failures, ask(tools=(WEATHER,)), "acme")
    chunks = [chunk for event in events for chunk in reader.feed(json.dumps(event))]
    assert chunks == [ReasoningChunk("hm")]
    assert len(reader.completion().message.tool_calls) == 1
