"""A strict HTTP server on loopback that answers with exact bytes and records what it was asked.

    async with Loopback(chat_stream(text="hi")) as server:
        ...  # POST to f"{server.url}/v1/chat/completions"
        server.requests[0].json()

Answers are given in the order they were scripted. A request that is malformed or not scripted fails
the test when the server closes.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Literal


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


HANG: Final = _Mark("HANG")
"""Send nothing more; wait until the client gives up."""
RESET: Final = _Mark("RESET")
"""Drop the connection at once, without finishing the response."""
SILENCE: Final = _Mark("SILENCE")
"""As the first piece: do not even send the head."""

Piece = bytes | _Mark


@dataclass(frozen=True)
class Request:
    """A recorded request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """One response: its pieces are flushed one by one. `close` frames it by the end of the connection."""

    pieces: Sequence[Piece] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    framing: Literal["chunked", "close"] = "chunked"


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    content = {"content-type": "application/json", **(headers or {})}
    return Answer((json.dumps(body).encode(),), status, content)


def sse(*events: Any, names: bool = False) -> list[bytes]:
    """Each event as the bytes of one server-sent event; strings are sent as they are."""
    lines = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        name = f"event: {event['type']}\n" if names else ""
        lines.append(f"{name}data: {data}\n\n".encode())
    return lines


def chat_chunk(
    delta: Mapping[str, Any] | None = None, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """One chat.completion.chunk."""
    choice = {"index": 0, "delta": dict(delta or {}), "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }


def chat_events(
    text: str = "",
    *,
    calls: Sequence[tuple[str, str, str]] = (),
    usage: Mapping[str, Any] | None = None,
    finish: str = "",
) -> list[Any]:
    """The events of a whole Chat Completions answer; `calls` are (id, name, argument text)."""
    events: list[Any] = [chat_chunk({"role": "assistant", "content": ""})]
    events += [chat_chunk({"content": word}) for word in _pieces(text)]
    for index, (call_id, name, arguments) in enumerate(calls):
        function = {"name": name, "arguments": ""}
        head = {"index": index, "id": call_id, "type": "function", "function": function}
        events.append(chat_chunk({"tool_calls": [head]}))
        for piece in _halves(arguments):
            events.append(chat_chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    events.append(chat_chunk(finish=finish or ("tool_calls" if calls else "stop")))
    if usage is not None:
        events.append({**chat_chunk(), "choices": [], "usage": dict(usage)})
    return [*events, "[DONE]"]


def chat_stream(
    text: str = "",
    *,
    calls: Sequence[tuple[str, str, str]] = (),
    usage: Mapping[str, Any] | None = None,
    finish: str = "",
) -> Answer:
    """A whole Chat Completions answer, one flush per event."""
    return Answer(sse(*chat_events(text, calls=calls, usage=usage, finish=finish)))


def anthropic_events(
    text: str = "",
    *,
    thinking: Sequence[tuple[str, str]] = (),
    calls: Sequence[tuple[str, str, str]] = (),
    usage: Mapping[str, Any] | None = None,
    stop: str = "",
) -> list[dict[str, Any]]:
    """The events of a whole Messages answer; `thinking` are (text, signature)."""
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for thought, signature in thinking:
        deltas = [{"type": "thinking_delta", "thinking": word} for word in _pieces(thought)]
        deltas.append({"type": "signature_delta", "signature": signature})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if text:
        deltas = [{"type": "text_delta", "text": word} for word in _pieces(text)]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for call_id, name, arguments in calls:
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in _halves(arguments)]
        blocks.append(({"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas))
    counts = dict(usage or {"input_tokens": 1, "output_tokens": 1})
    start = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": counts}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    reason = stop or ("tool_use" if calls else "end_turn")
    delta = {"stop_reason": reason, "stop_sequence": None}
    output = {"output_tokens": counts.get("output_tokens", 1)}
    events.append({"type": "message_delta", "delta": delta, "usage": output})
    return [*events, {"type": "message_stop"}]


def anthropic_stream(
    text: str = "",
    *,
    thinking: Sequence[tuple[str, str]] = (),
    calls: Sequence[tuple[str, str, str]] = (),
    usage: Mapping[str, Any] | None = None,
    stop: str = "",
) -> Answer:
    """A whole Messages answer, one flush per event."""
    events = anthropic_events(text, thinking=thinking, calls=calls, usage=usage, stop=stop)
    return Answer(sse(*events, names=True))


def _pieces(text: str) -> list[str]:
    return [text[start : start + 5] for start in range(0, len(text), 5)]


def _halves(text: str) -> Iterator[str]:
    middle = len(text) // 2
    yield from (text[:middle], text[middle:])


class Loopback:
    """Serves scripted answers on a free port of 127.0.0.1."""

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.connections = 0
        self._answers = list(answers)
        self._served = 0
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._tls = tls

    def enqueue(self, *answers: Answer) -> None:
        self._answers += answers

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Loopback:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        if kind is None:
            assert not self.problems, self.problems

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while (request := await self._read(reader)) is not None:
                self.requests.append(request)
                if not await self._send(self._next(request), reader, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    def _next(self, request: Request) -> Answer:
        if self._served >= len(self._answers):
            self.problems.append(f"nothing is scripted for request {self._served + 1} ({request.path})")
            return json_answer({"error": {"message": "not scripted"}}, 501)
        self._served += 1
        return self._answers[self._served - 1]

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, version = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if version != "HTTP/1.1" or "host" not in headers:
            self.problems.append(f"no HTTP/1.1 request: {head!r}")
        if method == "POST" and headers.get("content-type") != "application/json":
            self.problems.append(f"content type {headers.get('content-type')!r}")
        return Request(method, path, headers, body)

    async def _send(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send one answer; True if the connection may carry another request."""
        chunked = answer.framing == "chunked"
        head = [f"HTTP/1.1 {answer.status} Scripted", *(f"{k}: {v}" for k, v in answer.headers.items())]
        head.append("transfer-encoding: chunked" if chunked else "connection: close")
        if not (answer.pieces and answer.pieces[0] is SILENCE):
            writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        for piece in answer.pieces:
            if isinstance(piece, bytes):
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked and piece else piece)
                await writer.drain()
                await asyncio.sleep(0)
            elif piece is RESET:
                await writer.drain()
                writer.transport.abort()
                return False
            else:
                await reader.read()
                return False
        if chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return chunked
