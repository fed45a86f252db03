"""Finds a model server that already runs on this machine. Only 127.0.0.1 is ever asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

_CONNECT_SECONDS = 0.3
_TOTAL_SECONDS = 0.8
_MAX_BODY_BYTES = 1_000_000
_NOT_FOR_CHAT = ("embed", "bge-", "minilm", "rerank", "whisper", "tts", "ocr")


@dataclass(frozen=True)
class ModelServer:
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


@dataclass(frozen=True)
class FoundModel:
    """`is_wanted` says whether `model` is the one that was asked for, or just the first that can chat."""

    server: ModelServer
    model: str
    is_wanted: bool


async def find_model(wanted: str, servers: Sequence[ModelServer] = MODEL_SERVERS) -> FoundModel | None:
    """Ask all `servers` at once, for at most 0.8 s; prefer one that serves `wanted`, then their order."""
    served = await asyncio.gather(*(_chat_models(server) for server in servers))
    found = [(server, model) for server, models in zip(servers, served, strict=True) for model in models]
    for server, model in found:
        if _is_same_model(wanted, model):
            return FoundModel(server, model, is_wanted=True)
    return FoundModel(*found[0], is_wanted=False) if found else None


async def _chat_models(server: ModelServer) -> list[str]:
    """What `server` lists under `GET /v1/models`, without embedding and speech models; [] if silent."""
    try:
        async with asyncio.timeout(_TOTAL_SECONDS):
            if not await _is_listening(server.port):
                return []
            body = await _get(f"{server.api_base}/models")
    except TimeoutError:
        return []
    return [name for name in _model_ids(body) if not any(word in name.lower() for word in _NOT_FOR_CHAT)]


async def _is_listening(port: int) -> bool:
    """Looked at first, because mostly nothing is there and loading the HTTP client costs more."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:  # TimeoutError included
        return False
    writer.close()
    return True


async def _get(url: str) -> bytes:
    """The body of a 200 answer; empty for anything else, as any program may sit on these ports."""
    import httpx2

    body = b""
    try:
        async with (
            httpx2.AsyncClient(trust_env=False, verify=False) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                return b""
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    return b""
    except httpx2.HTTPError:
        return b""
    return body


def _model_ids(body: bytes) -> list[str]:
    """The ids in an OpenAI model list; [] if `body` is something else."""
    try:
        data = json.loads(body)
    except ValueError:
        return []
    entries = data.get("data") if isinstance(data, dict) else None
    if not isinstance(entries, list):
        return []
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    return [model for model in ids if isinstance(model, str) and model]


def _is_same_model(wanted: str, served: str) -> bool:
    """`llama3.2` is served as `llama3.2:latest`, `ollama/llama3.2` is written by some for the same."""
    names = {wanted.lower(), wanted.lower().rpartition("/")[2]}
    return served.lower().removesuffix(":latest") in {name.removesuffix(":latest") for name in names}
