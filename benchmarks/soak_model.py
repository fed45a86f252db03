"""The model of the kill loop: what it asks for follows from the message alone, so that it can be checked."""

from __future__ import annotations

import asyncio
import json
import random
import re
from typing import Any

from model_server import chunk, read_request

from nanobot.messages import INTERRUPTED

MESSAGE = re.compile(r"(?:^|\n)((?:c\d+|log) m(\d+))$")  # what a user wrote, after nanobot's own note


def plan(text: str) -> list[list[tuple[str, str]]]:
    """The (place, tool) calls the model makes in answer to `text`, step by step; the same every time."""
    chance = random.Random(text)
    count = 0 if text.startswith("log") else chance.randint(0, 6)
    tools = [chance.choice(("read_file", "message", "exec")) for _ in range(count)]
    steps: list[list[tuple[str, str]]] = []
    while tools:
        size = chance.randint(1, 3)
        steps.append([(f"{len(steps)}_{n}", tool) for n, tool in enumerate(tools[:size])])
        tools = tools[size:]
    return steps


def places(text: str, tool: str) -> list[str]:
    return [place for step in plan(text) for place, name in step if name == tool]


def call_body(text: str, place: str, tool: str) -> dict[str, Any]:
    key = f"{text}#{place}"
    arguments: dict[str, dict[str, Any]] = {
        "read_file": {"path": "AGENTS.md", "limit": int(place.replace("_", "")) + 1},
        "message": {"content": key, "chat_id": "log"},
        "exec": {"command": f"echo '{key}' >> effects.log"},
    }
    function = {"name": tool, "arguments": json.dumps(arguments[tool])}
    return {"id": f"{text} {place}".replace(" ", "-"), "type": "function", "function": function}


def answer(messages: list[dict[str, Any]], broken: list[str]) -> list[dict[str, Any]]:
    """The stream chunks that follow a conversation; complains about one that is out of order."""
    users = [(i, match) for i, message in enumerate(messages) if (match := user_text(message))]
    if not users:  # the gateway consolidates its memory
        return [chunk({"content": '{"history": "They counted.", "operations": []}'}, None), chunk({}, "stop")]
    numbers = [int(match[2]) for _, match in users]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        broken.append(f"{users[-1][1][1]}: the model was shown the messages {numbers}")
    last_user, text = users[-1][0], users[-1][1][1]
    since = messages[last_user:]
    steps, done = plan(text), sum(bool(message.get("tool_calls")) for message in since)
    if done < len(steps):
        bodies: list[dict[str, Any]] = [
            {"index": i, **call_body(text, *call)} for i, call in enumerate(steps[done])
        ]
        return [chunk({"role": "assistant", "tool_calls": bodies}, None), chunk({}, "tool_calls")]
    results = [message for message in since if message["role"] == "tool"]
    asked = [call["id"] for message in since for call in message.get("tool_calls") or ()]
    if [result["tool_call_id"] for result in results] != asked:
        broken.append(f"{text}: the calls {asked} do not match their results")
    told = [
        result["tool_call_id"].split("-")[-1] for result in results if INTERRUPTED in str(result["content"])
    ]
    words = f"re {text}" + (f" (interrupted {' '.join(told)})" if told else "")
    return [chunk({"content": words}, None), chunk({}, "stop")]


def user_text(message: dict[str, Any]) -> re.Match[str] | None:
    return MESSAGE.search(str(message["content"]).strip()) if message["role"] == "user" else None


async def serve_model(broken: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Chat Completions over server-sent events; what looks wrong in a request is added to `broken`."""
    try:
        while True:
            chunks = answer((await read_request(reader))["messages"], broken)
            body = "".join(f"data: {json.dumps(item)}\n\n" for item in chunks) + "data: [DONE]\n\n"
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            writer.write((head + body).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the gateway was killed
    finally:
        writer.close()
