"""Shared by the tests of the wires: fast settings, a small conversation, a way to collect a stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from nanobot.messages import Message, ToolDefinition
from nanobot.providers.base import (
    Completion,
    ModelEvent,
    ModelRequest,
    Provider,
    ReasoningChunk,
    Retrying,
    TextChunk,
)
from nanobot.providers.transport import TransportSettings

WEATHER = ToolDefinition(
    "get_weather",
    "The weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TIME = ToolDefinition("get_time", "The time.", {"type": "object", "properties": {}})


class LargestJitter(Random):
    def random(self) -> float:
        return 1.0


@dataclass
class Waits:
    """Stands in for sleeping: remembers how long nanobot would have waited."""

    seconds: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


def fast_settings(waits: Waits, **changes: float) -> TransportSettings:
    """No real waiting between attempts, the largest jitter, a clock that stands still."""
    return TransportSettings(
        sleep=waits.sleep, random=LargestJitter(), clock=lambda: 1_700_000_000.0, **changes
    )


def ask(
    text: str = "hello", *, model: str = "test-model", tools: tuple[ToolDefinition, ...] = ()
) -> ModelRequest:
    return ModelRequest(
        model=model,
        system="You are terse.",
        messages=(Message.user(text),),
        tools=tools,
        max_tokens=100,
        temperature=0.1,
    )


@dataclass
class Collected:
    """Everything a stream gave, with the completion it ended in."""

    events: list[ModelEvent]

    @property
    def completion(self) -> Completion:
        last = self.events[-1]
        assert isinstance(last, Completion), f"the last event must be the completion: {self.events}"
        return last

    @property
    def shown(self) -> str:
        """The text a terminal would show in the end: chunks, without the discarded ones."""
        text = ""
        for event in self.events:
            if isinstance(event, TextChunk):
                text += event.text
            elif isinstance(event, Retrying | ReasoningChunk) and (
                event.discard if isinstance(event, Retrying) else event.was_text
            ):
                text = ""
        return text

    @property
    def retries(self) -> list[Retrying]:
        return [event for event in self.events if isinstance(event, Retrying)]


async def collect(provider: Provider, request: ModelRequest) -> Collected:
    return Collected([event async for event in provider.stream(request)])
