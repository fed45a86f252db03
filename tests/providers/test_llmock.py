"""Both wires against `llmock`, an independent model server with scripted faults, over real sockets.

llmock's own verdict on how the client behaved is asserted in the end: retries that are missing or too
early, truncated streams taken for whole ones, and so on.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Reply
from llmock.scenarios import ToolCall as ScriptedCall

from nanobot.errors import BrokenStreamError, OverloadedError, ProviderError
from nanobot.messages import Message, ToolResult
from nanobot.providers.anthropic_messages import AnthropicMessagesProvider
from nanobot.providers.base import ModelRequest
from nanobot.providers.chat_completions import ChatCompletionsProvider
from nanobot.providers.registry import find_spec
from nanobot.providers.transport import TransportSettings, WireProvider
from tests.providers.calling import TIME, WEATHER, Collected, Waits, ask, collect, fast_settings
from tests.providers.loopback import Request
from tests.providers.wire_rules import check_anthropic_request, check_chat_request

KEY = "sk-llmock-0123456789"


@dataclass
class Peer:
    """llmock behind one of the wires, with a provider that talks to it."""

    mock: LLMock
    provider: WireProvider
    waits: Waits

    async def ask(self, request: ModelRequest | None = None) -> Collected:
        return await collect(self.provider, request or ask(tools=(WEATHER, TIME)))

    def check_requests(self) -> None:
        """Every captured request obeys the public rules of its wire."""
        for record in self.mock.requests:
            content = json.dumps(record.body).encode()
            request = Request(record.method, record.path, {"anthropic-version": "2023-06-01"}, content)
            check = check_anthropic_request if self.provider.name == "anthropic" else check_chat_request
            check(request)


def provider_for(mock: LLMock, wire: str, settings: TransportSettings) -> WireProvider:
    spec = find_spec(wire)
    assert spec is not None
    kind = AnthropicMessagesProvider if wire == "anthropic" else ChatCompletionsProvider
    return kind(spec, api_key=KEY, api_base=mock.base_url(wire), settings=settings)


@pytest.fixture(params=["openai", "anthropic"])
async def peer(request: pytest.FixtureRequest, llmock: LLMock) -> AsyncIterator[Peer]:
    waits = Waits()
    provider = provider_for(llmock, request.param, fast_settings(waits, idle_timeout=0.3))
    peer = Peer(llmock, provider, waits)
    yield peer
    await provider.aclose()
    peer.check_requests()


async def test_plain_reply(peer: Peer) -> None:
    peer.mock.reply("Hello there, Zoë.")
    answer = await peer.ask()
    assert answer.shown == answer.completion.message.text == "Hello there, Zoë."
    assert answer.completion.finish_reason == "stop"
    assert answer.completion.usage.input_tokens > 0
    assert answer.completion.usage.output_tokens > 0
    peer.mock.assert_resilient(strict=True)


async def test_parallel_tool_calls_and_their_results(peer: Peer) -> None:
    calls = (ScriptedCall("get_weather", {"city": "Zürich"}), ScriptedCall("get_time", {}))
    peer.mock.add(Reply(text="Let me see.", tool_calls=calls))
    request = ask(tools=(WEATHER, TIME))
    completion = (await peer.ask(request)).completion
    assert completion.finish_reason == "tool_calls"
    assert completion.message.text == "Let me see."
    made = completion.message.tool_calls
    assert [(call.name, call.arguments) for call in made] == [
        ("get_weather", {"city": "Zürich"}),
        ("get_time", {}),
    ]
    results = [Message("tool", (ToolResult(call.id, call.name, "done"),)) for call in made]
    history = (*request.messages, completion.message, *results)
    peer.mock.reply("Sunny.")
    follow_up = ModelRequest("test-model", request.system, history, request.tools, 100)
    assert (await peer.ask(follow_up)).shown == "Sunny."
    peer.mock.assert_resilient(strict=True)


async def test_rate_limit_with_retry_after(peer: Peer) -> None:
    peer.mock.rate_limit(times=2, retry_after=7)
    peer.mock.reply("ok")
    assert (await peer.ask()).shown == "ok"
    assert peer.waits.seconds == [7.0, 7.0]


async def test_server_errors_are_retried_three_times(peer: Peer) -> None:
    peer.mock.fail(500, times=3).reply("ok")
    assert (await peer.ask()).shown == "ok"
    peer.mock.outage(status=503)
    with pytest.raises(OverloadedError):
        await peer.ask()
    assert len(peer.mock.requests) == 8


@pytest.mark.parametrize("fault", ["disconnect", "truncate", "corrupt"])
@pytest.mark.parametrize("after_chunks", [1, 3])
async def test_broken_streams_are_tried_again(peer: Peer, fault: str, after_chunks: int) -> None:
    getattr(peer.mock, fault)(after_chunks=after_chunks)
    peer.mock.reply("one two three four five six", times=2)
    answer = await peer.ask()
    assert answer.shown == answer.completion.message.text == "one two three four five six"
    assert len(answer.retries) == 1
    peer.mock.assert_resilient()


@pytest.mark.parametrize("fault", ["disconnect", "truncate", "corrupt"])
@pytest.mark.parametrize("after_chunks", [1, 2, 3, 4])
async def test_a_tool_call_in_a_broken_stream_is_never_given_out(
    peer: Peer, fault: str, after_chunks: int
) -> None:
    call = ScriptedCall("get_weather", {"city": "a long enough name to be streamed in pieces"})
    getattr(peer.mock, fault)(after_chunks=after_chunks, times=4)
    peer.mock.add(Reply(tool_calls=(call,), times=4))
    with pytest.raises(ProviderError) as caught:
        await peer.ask()
    assert caught.value.retryable
    peer.mock.add(Reply(tool_calls=(call,)))
    (made,) = (await peer.ask()).completion.message.tool_calls
    assert made.arguments == call.arguments


async def test_a_stalled_stream(peer: Peer) -> None:
    peer.mock.stall(after_chunks=2, seconds=30.0, times=4)
    with pytest.raises(BrokenStreamError, match=r"nothing came for 0\.3 seconds"):
        await peer.ask()
    assert len(peer.waits.seconds) == 3


async def test_arguments_that_are_no_json_are_marked(peer: Peer) -> None:
    peer.mock.call_tool("get_weather", {"city": "Oslo"}).break_tool_call("malformed_arguments")
    (call,) = (await peer.ask()).completion.message.tool_calls
    assert call.malformed
    assert call.arguments == {}
