"""A model server for the benchmarks: Chat Completions over server-sent events, on loopback.

It prints its base URL and serves until its standard input ends. A message that holds `CALLS=n` is answered
with n calls of read_file, one after another, then with words; any other message with words at once.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

REPLY = "The answer to your question is forty-two, and it has been for quite some time now."
CALLS = re.compile(r"CALLS=(\d+)")


def next_chunks(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chunks of the reply: one more tool call while the marker asks for one, else words."""
    last_user = max(index for index, message in enumerate(messages) if message["role"] == "user")
    marker = CALLS.search(json.dumps(messages[last_user]["content"]))
    done = sum(message["role"] == "tool" for message in messages[last_user:])
    if marker and done < int(marker[1]):
        arguments = json.dumps({"path": f"note-{done}.txt"})
        call = {"index": 0, "id": f"call_{done}", "type": "function"}
        deltas = [
            {
                "role": "assistant",
                "tool_calls": [{**call, "function": {"name": "read_file", "arguments": ""}}],
            }
        ]
        deltas.append({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})
        return [*map(delta_chunk, deltas), chunk({}, "tool_calls")]
    words: list[dict[str, Any]] = [{"content": word + " "} for word in REPLY.split(" ")]
    return [*map(delta_chunk, words), chunk({}, "stop")]


def delta_chunk(delta: dict[str, Any]) -> dict[str, Any]:
    return chunk(delta, None)


def chunk(delta: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "bench", "choices": [choice]}


async def read_request(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    body: dict[str, Any] = json.loads(await reader.readexactly(int(length[1]) if length else 0))
    return body


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            chunks = next_chunks((await read_request(reader))["messages"])
            usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
            events = [*chunks, {**chunk({}, None), "choices": [], "usage": usage}]
            lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {len(lines)}\r\n\r\n"
            )
            writer.write((head + lines).encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client has gone
    finally:
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=64 * 2**20)
    async with server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
