"""A model that stops before it has answered: the owner reads why, and nothing is asked in vain."""

from __future__ import annotations

import pytest

from nanobot.bus.events import Notice
from nanobot.messages import Message, Usage
from nanobot.providers.base import FinishReason
from nanobot.providers.scripted import Reply
from tests.agent.harness import Act, Played, call, play


async def answered(reply: Reply) -> Played:
    return await play([reply, "never asked for"], [Act("act", lambda **_: "done")], max_tokens=500)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (
            Reply(reasoning="hmm", finish_reason="length"),
            "Thinking used up maxTokens (500) without an answer; raise agents.defaults.maxTokens.",
        ),
        (
            Reply(usage=Usage(9, 500, reasoning_tokens=500), finish_reason="length"),
            "Thinking used up maxTokens",
        ),
        (Reply(text=" \n", reasoning="hmm", finish_reason="length"), "Thinking used up maxTokens (500)"),
        (
            Reply(tool_calls=[call("act")], usage=Usage(9, 500), finish_reason="length"),
            "A tool call, or something else unseen, used up maxTokens (500)",
        ),
        (
            Reply(reasoning="hmm", tool_calls=[call("act")], finish_reason="length"),
            "raise agents.defaults.max",
        ),
        (
            Reply(reasoning="hmm", usage=Usage(4000, 96), finish_reason="length"),
            "It ended after 96 tokens: if no more are allowed, /new makes room.",
        ),
        (Reply(finish_reason="refusal"), "declined to answer (content filter)"),
        (Reply(reasoning="no", tool_calls=[call("act")], finish_reason="refusal"), "or another model"),
    ],
)
async def test_an_empty_answer_that_is_explained_is_not_asked_for_again(reply: Reply, says: str) -> None:
    played = await answered(reply)
    assert says in played.finished.error
    assert (played.finished.stop_reason, played.finished.error_type) == ("error", "ProviderError")
    assert len(played.provider.requests) == 1


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("length", 'The answer was cut at 500 tokens (agents.defaults.maxTokens). Say "go on".'),
        ("refusal", "The model declined to go on (content filter)."),
    ],
)
async def test_an_answer_that_broke_off_is_kept_and_says_why(reason: FinishReason, says: str) -> None:
    played = await answered(Reply(text="partly", finish_reason=reason))
    assert played.recorded == [Message.assistant("partly")]
    assert played.of(Notice) == [Notice(says)]


@pytest.mark.parametrize("empty", [Reply(), Reply(reasoning="hmm"), Reply(text=" \n"), Reply(text="")])
async def test_an_empty_answer_without_a_reason_is_asked_for_once_more(empty: Reply) -> None:
    played = await play([empty, "there"])
    assert played.finished.text == "there"
    played = await play([empty, empty])
    assert "empty answer twice" in played.finished.error
