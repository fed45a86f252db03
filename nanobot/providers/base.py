"""What a model provider is to the rest of nanobot: one streaming call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from nanobot.messages import Message, ToolDefinition, Usage

FinishReason = Literal["stop", "tool_calls", "length", "refusal"]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call of a model. `system` is the stable prompt text, `model` the name as the owner wrote it."""

    model: str
    system: str
    messages: Sequence[Message]
    tools: Sequence[ToolDefinition]
    max_tokens: int
    temperature: float | None = None
    session_key: str = ""


@dataclass(frozen=True, slots=True)
class TextChunk:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningChunk:
    """A piece of thinking. `was_text`: the text given so far was thinking, too, and is taken back."""

    text: str
    was_text: bool = False


class Retrying(NamedTuple):
    """An attempt failed and is repeated after `delay` seconds; `discard` if chunks were already given."""

    reason: str
    delay: float
    discard: bool


class Completion(NamedTuple):
    """The whole answer; always the last item.

    Tool calls appear here only, never from a stream that broke or an answer that was cut or refused. Their
    ids tell them apart within this answer; the turn makes them unique in the conversation. `note`: why the
    answer is none, for the owner.
    """

    message: Message
    usage: Usage
    finish_reason: FinishReason
    note: str = ""


ModelEvent = TextChunk | ReasoningChunk | Retrying | Completion


class ModelTraits(NamedTuple):
    """What a resolved model can do. `context_window` is in tokens. `note` is told to the owner once."""

    supports_tools: bool = True
    supports_images: bool = True
    context_window: int = 128_000
    note: str = ""


class Provider(Protocol):
    """A resolved endpoint. Closing releases its connections (and, for a local model, its memory)."""

    @property
    def name(self) -> str:
        """The registry name, for example `openrouter`."""

    def traits(self, model: str) -> ModelTraits: ...

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield chunks and end with a Completion, or raise a ProviderError."""

    async def aclose(self) -> None: ...
