"""Both wires against `aimock`, an independent model server from npm with reasoning and faults.

`make peers` runs this. The server is found in $NANOBOT_PEERS_DIR/node_modules, by default that of the
repository: `npm install @copilotkit/aimock`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanobot.errors import BrokenStreamError, ProviderError, RateLimitError
from nanobot.messages import Message, ReasoningPart, ToolResult
from nanobot.providers.anthropic_messages import AnthropicMessagesProvider
from nanobot.providers.base import ModelRequest
from nanobot.providers.chat_completions import ChatCompletionsProvider
from nanobot.providers.registry import find_spec
from nanobot.providers.transport import WireProvider
from tests.providers.calling import WEATHER, Waits, ask, collect, fast_settings

pytestmark = pytest.mark.peers

REPOSITORY = Path(__file__).parents[2]
CALL = {"name": "get_weather", "arguments": {"city": "Paris"}}
SAYS = "Let me check."
FIXTURES = [
    {
        "match": {"userMessage": "TOOL", "hasToolResult": False},
        "response": {"toolCalls": [CALL, CALL], "reasoning": SAYS, "reasoningSignature": "sig-abc"},
    },
    {"match": {"userMessage": "TOOL", "hasToolResult": True}, "response": {"content": "Sunny."}},
    {
        "match": {"userMessage": "R429"},
        "response": {
            "error": {"message": "slow", "type": "rate_limit_error"},
            "status": 429,
            "retryAfter": 9,
        },
    },
    {
        "match": {"userMessage": "DISC"},
        "response": {"content": "a long answer that never arrives in full " * 5},
        "chunkSize": 5,
        "latency": 20,
        "disconnectAfterMs": 60,
    },
    {"match": {"userMessage": "BADJSON"}, "response": {"content": "x"}, "chaos": {"malformedRate": 1}},
]


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """aimock on a free port, with our fixtures."""
    program = Path(os.environ.get("NANOBOT_PEERS_DIR", REPOSITORY)) / "node_modules/@copilotkit/aimock"
    assert program.is_dir(), f"{program} is missing: npm install @copilotkit/aimock"
    (tmp_path / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    process = await asyncio.create_subprocess_exec(
        "node",
        str(program.parents[1] / ".bin/llmock"),
        *("-p", "0", "-f", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        while line := (await process.stdout.readline()).decode():
            if listening := re.search(r"listening on (http://\S+)", line):
                yield listening[1]
                break
        else:
            pytest.fail("aimock ended before it listened")
    finally:
        process.terminate()
        await process.communicate()


@pytest.fixture(params=["openai", "anthropic"])
async def peer(request: pytest.FixtureRequest, url: str) -> AsyncIterator[tuple[WireProvider, Waits]]:
    waits = Waits()
    spec = find_spec(request.param)
    assert spec is not None
    kind = AnthropicMessagesProvider if request.param == "anthropic" else ChatCompletionsProvider
    provider = kind(spec, api_key="sk-aimock-1", api_base=f"{url}/v1", settings=fast_settings(waits))
    yield provider, waits
    await provider.aclose()


async def test_reasoning_and_tool_calls_round_trip(peer: tuple[WireProvider, Waits]) -> None:
    provider, _ = peer
    request = ask("TOOL", tools=(WEATHER,))
    message = (await collect(provider, request)).completion.message
    thought = message.parts[0]
    assert isinstance(thought, ReasoningPart)
    assert thought.text == SAYS
    assert thought.signature == ("sig-abc" if provider.name == "anthropic" else "")
    assert [(call.name, call.arguments) for call in message.tool_calls] == [
        ("get_weather", {"city": "Paris"})
    ] * 2
    results = [Message("tool", (ToolResult(call.id, call.name, "sun"),)) for call in message.tool_calls]
    history = (*request.messages, message, *results)
    answer = await collect(provider, ModelRequest("test-model", "", history, (WEATHER,), 100))
    assert answer.shown == "Sunny."


async def test_rate_limit(peer: tuple[WireProvider, Waits]) -> None:
    provider, waits = peer
    with pytest.raises(RateLimitError, match="slow"):
        await collect(provider, ask("R429"))
    assert waits.seconds == [9.0, 9.0, 9.0]


async def test_disconnect(peer: tuple[WireProvider, Waits]) -> None:
    provider, waits = peer
    with pytest.raises(ProviderError) as caught:
        await collect(provider, ask("DISC"))
    assert caught.value.retryable
    assert len(waits.seconds) == 3


async def test_a_200_that_is_neither_stream_nor_json(peer: tuple[WireProvider, Waits]) -> None:
    provider, waits = peer
    with pytest.raises(BrokenStreamError, match="malformed json"):
        await collect(provider, ask("BADJSON"))
    assert len(waits.seconds) == 3
