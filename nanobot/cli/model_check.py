"""Tries a model with one tiny request."""

from __future__ import annotations

from nanobot.config.schema import Config
from nanobot.messages import Message
from nanobot.providers.base import Completion, ModelRequest
from nanobot.providers.resolve import Resolution, open_provider, resolve

_QUESTION = "Reply with the single word: ready"
_MAX_TOKENS = 64


async def check_model(config: Config, model: str) -> Resolution:
    """Ask `model` one word and wait for it; says who answered. Raises ProviderError when that fails."""
    resolution = await resolve(config, model)
    provider = open_provider(resolution, config)
    request = ModelRequest(
        model=resolution.model,
        system="You are a helpful assistant.",
        messages=[Message.user(_QUESTION)],
        tools=(),
        max_tokens=_MAX_TOKENS,
    )
    try:
        async for event in provider.stream(request):
            if isinstance(event, Completion):
                break
    finally:
        await provider.aclose()
    return resolution
