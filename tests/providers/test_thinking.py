"""Thinking that a model writes into its text, through both wires: never a reply, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.messages import ReasoningPart
from nanobot.providers.answer import AnswerReader
from nanobot.providers.anthropic_messages import AnthropicMessagesProvider, AnthropicReader
from nanobot.providers.base import Completion, ReasoningChunk, TextChunk
from nanobot.providers.chat_completions import ChatCompletionsProvider, ChatReader
from nanobot.providers.registry import ProviderSpec
from tests.providers.calling import WEATHER, ask, collect
from tests.providers.loopback import Answer, Loopback, anthropic_events, chat_chunk, sse

SPEC = ProviderSpec(name="acme", keywords=("acme",), env_key="ACME_API_KEY", display_name="Acme")


def chat_reader() -> AnswerReader:
    return ChatReader(ChatCompletionsProvider(SPEC).failures, ask(tools=(WEATHER,)), "acme")


def read(pieces: list[str], finish: str = "stop") -> tuple[str, str, Completion]:
    """What is shown in the end, what was shown for a moment only, and the whole answer."""
    events = [*(chat_chunk({"content": piece}) for piece in pieces), chat_chunk(finish=finish)]
    return finished(chat_reader(), events)


def finished(reader: AnswerReader, events: list[Any]) -> tuple[str, str, Completion]:
    shown = taken_back = ""
    chunks = [chunk for event in events for chunk in reader.feed(json.dumps(event))]
    for chunk in [*chunks, *reader.end()]:
        if isinstance(chunk, TextChunk):
            shown += chunk.text
        elif isinstance(chunk, ReasoningChunk) and chunk.was_text:
            shown, taken_back = "", shown
    return shown, taken_back, reader.completion()


def thought_of(completion: Completion) -> str:
    return "".join(part.text for part in completion.message.parts if isinstance(part, ReasoningPart))


def cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


THOUGHTS = [
    ("<think>\nsecret\n</think>\n\nHello!", "Hello!"),
    ("\n <think>secret</think>Hello!", "Hello!"),
    ("<THINK>secret</Think>Hello!", "Hello!"),
    ("<thinking>secret</thinking>\nHello!", "Hello!"),
    ("<thought>secret</thought>Hello!", "Hello!"),
    ("<seed:think>secret</seed:think>Hello!", "Hello!"),
    ("[THINK]secret[/THINK]Hello!", "Hello!"),
    ("◁think▷secret◁/think▷Hello!", "Hello!"),
    ("<think>a</think>\n<think>secret</think>Hello!", "Hello!"),
    ("<think>secret <b> and 1 < 2</think>Hello!", "Hello!"),
    ("<think>\n\n</think>\n\nHello!", "Hello!"),
    ("</think>\nHello!", "Hello!"),
    ("secret\n</think>\n\nHello!", "Hello!"),
    ("secret</think>Hello!", "Hello!"),
    ("secret </think>\nHello!", "Hello!"),
    ("<think>secret</think>a ```\n<think>\n``` b", "a ```\n<think>\n``` b"),
    ("<think>secret</think>", ""),
    ("<think>secret, and then the tokens were used up", ""),
    ("secret\n</think>", ""),
]
WORDS = [
    "Use the <think> tag, then </think>, to reason.",
    "Write </think> and then the answer.",
    "The tag (</think>) ends it.",
    "`</think>` ends it.",
    "```xml\n<think>\nhm\n</think>\n```\nThat is how.",
    "```\nhm\n</think>\n```",
    "~~~\nhm</think>\n~~~",
    "1 < 2, a[1], <b>bold</b>, `x`, ``y``, <thin",
    "<thinker>me</thinker>",
    "  two spaces",
    "[Think](https://a.test) of it",
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("text", "answer"), THOUGHTS)
def test_thinking_is_no_reply(text: str, answer: str, size: int) -> None:
    shown, _, completion = read(cut(text, size))
    assert (shown, completion.message.text) == (answer, answer)
    assert "secret" in thought_of(completion) or "secret" not in text
    assert not [
        part for part in completion.message.parts if isinstance(part, ReasoningPart) and not part.text
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("text", WORDS)
def test_tags_that_are_spoken_of_are_words(text: str, size: int) -> None:
    shown, taken_back, completion = read(cut(text, size))
    assert (shown, taken_back, completion.message.text) == (text, "", text)


def test_only_a_lone_closing_tag_takes_back_what_was_shown() -> None:
    assert read(["<think>secret</think>", "Hello!"])[1] == ""
    assert read(["secret\n", "</think>", "Hello!"])[:2] == ("Hello!", "secret")


def test_thinking_that_used_up_the_tokens_says_so_by_its_finish_reason() -> None:
    shown, _, completion = read(["<think>secret", " and more"], finish="length")
    assert (shown, completion.message.text, completion.finish_reason) == ("", "", "length")
    assert thought_of(completion) == "secret and more"


def test_the_messages_wire_of_look_alikes() -> None:
    provider = AnthropicMessagesProvider(SPEC)
    reader = AnthropicReader(provider.failures, ask(), "acme")
    shown, _, completion = finished(reader, anthropic_events("<think>secret</think>\n\nHello!"))
    assert (shown, completion.message.text, thought_of(completion)) == ("Hello!", "Hello!", "secret")


PIECE = st.sampled_from(
    ["<think>", "</think>", "<thinking>", "```", "`", "~", "\n", " ", "a", "b.", "<", "</", "[THINK]", "[/"]
)


@given(st.lists(PIECE, max_size=14), st.data())
def test_what_is_shown_does_not_depend_on_how_it_is_cut(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    whole = read([text])
    places = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    pieces = [text[start:stop] for start, stop in zip([0, *places], [*places, len(text)], strict=True)]
    shown, _, completion = read(pieces)
    assert shown == completion.message.text == whole[2].message.text
    assert thought_of(completion) == thought_of(whole[2])
    # Nothing but tags and the space around thoughts is lost.
    kept = thought_of(completion) + completion.message.text
    assert kept.count("a") + kept.count("b") == text.count("a") + text.count("b")


async def test_a_prompt_that_opens_the_tag_shows_its_thinking_once_at_most() -> None:
    closing = [
        chat_chunk({"content": "sec"}),
        chat_chunk({"content": "ret\n</think>"}),
        chat_chunk({"content": "A."}),
    ]
    plain = [chat_chunk({"content": "No "}), chat_chunk({"content": "thought."})]
    end = [chat_chunk(finish="stop"), "[DONE]"]
    async with Loopback(
        *(Answer(sse(*events, *end)) for events in (closing, closing, plain, plain))
    ) as server:
        provider = ChatCompletionsProvider(SPEC, api_base=f"{server.url}/v1")
        given = []
        for _ in range(4):
            collected = await collect(provider, ask())
            given.append([event.text for event in collected.events if isinstance(event, TextChunk)])
            assert collected.shown == collected.completion.message.text
        await provider.aclose()
    assert given == [["sec", "ret\n", "A."], ["A."], ["No thought."], ["No ", "thought."]]
