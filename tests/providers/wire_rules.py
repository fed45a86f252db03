"""What the public API pages demand of a request, as far as it can be checked from outside."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from tests.providers.loopback import Request

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_chat_request(request: Request) -> dict[str, Any]:
    """https://platform.openai.com/docs/api-reference/chat/create"""
    assert request.method == "POST"
    assert request.path.endswith("/chat/completions")
    body: dict[str, Any] = json.loads(request.body)
    assert isinstance(body["model"], str)
    assert body["model"]
    assert body["stream"] is True
    assert not {"max_tokens", "max_completion_tokens"} <= set(body)
    for tool in body.get("tools", []):
        assert tool["type"] == "function"
        assert _TOOL_NAME.fullmatch(tool["function"]["name"])
        assert tool["function"]["parameters"]["type"] == "object"
    waiting: set[str] = set()
    for message in body["messages"]:
        waiting = _check_chat_message(message, waiting)
    assert not waiting, f"tool calls without results: {waiting}"
    assert body["messages"][-1]["role"] != "assistant"
    return body


def _check_chat_message(message: Mapping[str, Any], waiting: set[str]) -> set[str]:
    role, content = message["role"], message["content"]
    if role == "tool":
        assert message["tool_call_id"] in waiting, "a result without a call before it"
        assert content
        return waiting - {message["tool_call_id"]}
    assert not waiting, f"{role} message before the results of {waiting}"
    assert role in ("system", "user", "assistant")
    calls = message.get("tool_calls", [])
    assert content or (role == "assistant" and calls), f"empty {role} message"
    for part in content if isinstance(content, list) else []:
        assert part["type"] in ("text", "image_url")
        assert part.get("text") or part.get("image_url")
    ids = [call["id"] for call in calls]
    assert len(ids) == len(set(ids))
    for call in calls:
        assert 0 < len(call["id"]) <= 40
        assert isinstance(json.loads(call["function"]["arguments"]), dict)
    return set(ids)


def check_anthropic_request(request: Request) -> dict[str, Any]:
    """https://docs.anthropic.com/en/api/messages"""
    assert request.method == "POST"
    assert request.path.endswith("/v1/messages")
    assert request.headers["anthropic-version"] == "2023-06-01"
    body: dict[str, Any] = json.loads(request.body)
    assert body["max_tokens"] > 0
    assert body["stream"] is True
    assert 0 <= body.get("temperature", 0) <= 1
    assert request.body.count(b'"cache_control"') <= 4
    for tool in body.get("tools", []):
        assert _TOOL_NAME.fullmatch(tool["name"])
        assert tool["input_schema"]["type"] == "object"
    assert body["messages"][0]["role"] == "user"
    seen: set[str] = set()
    waiting: list[str] = []
    for index, message in enumerate(body["messages"]):
        assert message["role"] == ("user", "assistant")[index % 2], "roles must alternate"
        assert message["content"], "content must not be empty"
        waiting = _check_blocks(message["content"], waiting, seen)
    assert body["messages"][-1]["role"] == "user"
    return body


def _check_blocks(blocks: list[dict[str, Any]], waiting: list[str], seen: set[str]) -> list[str]:
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert sorted(results) == sorted(waiting), "every tool_use is answered in the next message"
    assert all(block["type"] == "tool_result" for block in blocks[: len(results)]), "results come first"
    calls = []
    for block in blocks:
        match block["type"]:
            case "text":
                assert block["text"].strip()
            case "image":
                base64.b64decode(block["source"]["data"], validate=True)
            case "thinking":
                assert block["signature"]
                assert "cache_control" not in block
            case "redacted_thinking":
                assert block["data"]
            case "tool_use":
                assert re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"])
                assert block["id"] not in seen, "tool_use ids must be unique"
                assert isinstance(block["input"], dict)
                seen.add(block["id"])
                calls.append(block["id"])
            case kind:
                assert kind == "tool_result"
    return calls
