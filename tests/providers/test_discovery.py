from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nanobot.providers.discovery import FoundModel, ModelServer, find_model


def models(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode()


@asynccontextmanager
async def serving(body: bytes, *, status: str = "200 OK", title: str = "Test") -> AsyncIterator[ModelServer]:
    """A server on loopback that gives every request this answer. An empty status: no answer at all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if status:
                assert head.startswith(b"GET /v1/models HTTP/1.0\r\n"), head
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client only looked whether somebody listens, or has read enough
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield ModelServer(title, server.sockets[0].getsockname()[1])


async def test_the_wanted_model_wins_over_the_first_server():
    async with serving(models("llama3.2:latest")) as first, serving(models("qwen3:8b")) as second:
        assert await find_model("qwen3:8b", [first, second]) == FoundModel(second, "qwen3:8b", True)
        assert await find_model("llama3.2", [first, second]) == FoundModel(first, "llama3.2:latest", True)
        assert await find_model("ollama/llama3.2", [first]) == FoundModel(first, "llama3.2:latest", True)
        assert await find_model("claude", [first, second]) == FoundModel(first, "llama3.2:latest", False)


async def test_models_that_cannot_chat_are_passed_over():
    async with serving(models("nomic-embed-text:latest", "bge-m3", "mistral:7b")) as server:
        found = await find_model("x", [server])
        assert found == FoundModel(server, "mistral:7b", False)
        assert found.server.api_base == f"http://127.0.0.1:{server.port}/v1"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (models(), "200 OK"),
        (models("all-minilm"), "200 OK"),
        (models("llama"), "404 Not Found"),
        (models("llama"), "301 Moved Permanently"),
        (b"<html>hello</html>", "200 OK"),
        (b"\xff\xfe", "200 OK"),
        (b"[]", "200 OK"),
        (b'{"data": "x"}', "200 OK"),
        (b'{"data": [null, {"id": 3}, {"id": ""}]}', "200 OK"),
        (models("x" * 1_100_000), "200 OK"),
        (b"", ""),
    ],
)
async def test_whatever_else_sits_on_the_port_is_ignored(body: bytes, status: str):
    async with serving(body, status=status) as server:
        assert await find_model("llama", [server]) is None


async def test_nobody_listens():
    async with serving(models("llama")) as server:
        pass
    assert await find_model("llama", [server]) is None
    assert await find_model("llama", []) is None


async def test_a_proxy_from_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with serving(models("llama")) as server:
        assert await find_model("llama", [server]) is not None
