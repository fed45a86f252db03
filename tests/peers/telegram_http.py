"""Just enough HTTP/1.1 for the loopback Bot API: keep-alive, forms, uploads, and sockets that drop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_BODY = 52 * 1024 * 1024


class DropConnection(Exception):
    """The handler wants the socket closed without an answer."""


class BadForm(Exception):
    """The body is not what its Content-Type says, or that type is unknown."""


@dataclass(frozen=True)
class Upload:
    name: str
    data: bytes


@dataclass(frozen=True)
class Request:
    verb: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    too_large: bool = False


@dataclass(frozen=True)
class Response:
    body: bytes
    status: int = 200
    content_type: str = "application/json"

    @staticmethod
    def of(value: Any, status: int = 200) -> Response:
        return Response(json.dumps(value).encode(), status)


Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Form:
    """Parameters as they came (text, or JSON values of a JSON body) and uploaded files by field."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Upload] = field(default_factory=dict)


def parse_form(request: Request) -> Form:
    """Query string and body together. Raises BadForm."""
    form = Form(dict(parse_qsl(request.query, keep_blank_values=True)))
    kind, _, options = request.headers.get("content-type", "").partition(";")
    if not request.body:
        return form
    if kind == "application/json":
        _read_json(request.body, form)
    elif kind == "application/x-www-form-urlencoded":
        form.fields.update(parse_qsl(request.body.decode(), keep_blank_values=True))
    elif kind == "multipart/form-data":
        _read_multipart(request.body, options, form)
    else:
        raise BadForm(f"unsupported content type {kind!r}")
    return form


def _read_json(body: bytes, form: Form) -> None:
    try:
        value = json.loads(body)
    except ValueError as error:
        raise BadForm("can't parse request JSON object") from error
    if not isinstance(value, dict):
        raise BadForm("request JSON must be an object")
    form.fields.update(value)


def _read_multipart(body: bytes, options: str, form: Form) -> None:
    boundary = re.search(r'boundary="?([^";]+)', options)
    if boundary is None:
        raise BadForm("multipart without boundary")
    first, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())
    if first or not parts or not parts[-1].startswith(b"--"):
        raise BadForm("multipart body is cut off")
    for part in parts[:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        file_name = re.search(rb'filename="([^"]*)"', head)
        if name is None:
            raise BadForm("multipart field without name")
        if file_name is None:
            form.fields[name[1].decode()] = data.decode()
        else:
            form.files[name[1].decode()] = Upload(file_name[1].decode(), data)


class HttpServer:
    """Serves one handler on loopback until `stop`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on 127.0.0.1; returns the port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and cut every open connection."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (request := await _read(reader)) is not None:
                writer.write(_written(await self._handler(request)))
                await writer.drain()
        except (DropConnection, ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            writer.close()
            self._connections.discard(task)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    line = (await reader.readline()).decode("latin-1").strip()
    if not line:
        return None
    verb, target, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while header := (await reader.readline()).decode("latin-1").strip():
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "chunked" in headers.get("transfer-encoding", ""):
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    too_large = len(body) > MAX_BODY
    url = urlsplit(target)
    return Request(verb, unquote(url.path), url.query, headers, b"" if too_large else body, too_large)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return body


def _written(response: Response) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    head = (
        f"HTTP/1.1 {response.status} {phrase}\r\nContent-Type: {response.content_type}\r\n"
        f"Content-Length: {len(response.body)}\r\n\r\n"
    )
    return head.encode() + response.body
