"""Finds a model server that already runs on this machine. Only 127.0.0.1 is ever asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

_SECONDS = 0.8
_MAX_BYTES = 1_000_000
_NOT_FOR_CHAT = ("embed", "bge-", "minilm", "rerank", "whisper", "tts", "ocr")


class ModelServer(NamedTuple):
    """A program with an OpenAI-compatible `/v1`, and the port it listens on by default."""

    title: str
    port: int

    @property
    def api_base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


MODEL_SERVERS = (
    ModelServer("Ollama", 11434),
    ModelServer("LM Studio", 1234),
    ModelServer("llama.cpp", 8080),
    ModelServer("vLLM", 8000),
)


class FoundModel(NamedTuple):
    """`is_wanted` says whether `model` is the one that was asked for, or just the first that can chat."""

    server: ModelServer
    model: str
    is_wanted: bool


async def find_servers(
    servers: Sequence[ModelServer] = MODEL_SERVERS,
) -> list[tuple[ModelServer, list[str]]]:
    """Those of `servers` that run here, and their models for chatting. Takes at most 0.8 s."""
    served = await asyncio.gather(*(_listed(server) for server in servers))
    return [(server, models) for server, models in zip(servers, served, strict=True) if models]


async def find_model(wanted: str, servers: Sequence[ModelServer] = MODEL_SERVERS) -> FoundModel | None:
    """The model `wanted` at one of `servers`, else the first that can chat."""
    found = [(server, model) for server, models in await find_servers(servers) for model in models]
    # `llama3.2` is served as `llama3.2:latest`, `ollama/llama3.2` is written by some for the same.
    names = {name.lower().removesuffix(":latest") for name in (wanted, wanted.rpartition("/")[2])}
    for server, model in found:
        if model.lower().removesuffix(":latest") in names:
            return FoundModel(server, model, is_wanted=True)
    return FoundModel(*found[0], is_wanted=False) if found else None


def names_in(answer: Any) -> list[str]:
    """The models that the answer to `GET /models` lists. Raises TypeError, LookupError."""
    return [str(entry["id"]).removeprefix("models/") for entry in answer["data"] if entry["id"]]


def chat_models(names: Iterable[str]) -> list[str]:
    """Those that are not for embedding or speech."""
    return [name for name in names if not any(word in name.lower() for word in _NOT_FOR_CHAT)]


async def _listed(server: ModelServer) -> list[str]:
    """What `server` lists for chatting; [] if it does not.

    Asked by hand, as the HTTP client loads slowly; HTTP/1.0 ends the answer by closing.
    """
    answer = b""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with closing(writer):
                writer.write(f"GET /v1/models HTTP/1.0\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
                while len(answer) <= _MAX_BYTES and (chunk := await reader.read(65_536)):
                    answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return chat_models(names_in(json.loads(body))) if head[8:13] == b" 200 " else []
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []  # nobody there, too slow, or some other program sits on this port
