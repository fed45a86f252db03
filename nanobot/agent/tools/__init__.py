"""The tool contract, and the plugin API: what a tool offers, and what surrounds a running one."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nanobot.messages import ImagePart, Origin, TurnContext

__all__ = ["Tool", "ToolContext", "ToolOutput", "TurnContext", "current_turn"]  # the plugin API

TEXT = {"type": "string"}
WHOLE_NUMBER = {"type": "integer"}


@dataclass(frozen=True)
class ToolContext:
    """What a tool's constructor may know (the plugin API: exactly these six fields)."""

    workspace: Path
    allowed_dir: Path | None
    working_dir: str
    exec_timeout: int
    restrict_to_workspace: bool
    brave_api_key: str | None


class ToolOutput(NamedTuple):
    """A result with more than text. `origin`: whose words it is, when not those of the tool's `origin`.

    `diff` shows people what an edit has changed, a line each.
    """

    text: str
    images: tuple[ImagePart, ...] = ()
    exit_code: int | None = None
    origin: Origin | None = None
    diff: str = ""


_call: ContextVar[tuple[TurnContext, str, Callable[[str], None]]] = ContextVar("nanobot_tool_call")


@contextlib.contextmanager
def tool_surroundings(turn: TurnContext, call_id: str, report: Callable[[str], None]) -> Iterator[None]:
    """Set what `current_turn`, `current_call_id` and `report_output` give inside the block."""
    token = _call.set((turn, call_id, report))
    try:
        yield
    finally:
        _call.reset(token)


def current_turn() -> TurnContext:
    """The turn the calling tool runs in. Raises LookupError outside of a turn."""
    return _call.get()[0]


def current_call_id() -> str:
    """The id of the running tool call; with the turn id it names an effect that must happen once."""
    return _call.get()[1]


def report_output(text: str) -> None:
    """Show live output of the running tool to whoever watches the turn."""
    if call := _call.get(None):
        call[2](text)


class Tool(ABC):
    """One thing the model can do. Subclasses keep no state about a chat or a turn.

    `read_only` tools of one model response run concurrently. These and `repeatable` ones may be run again
    when nanobot died before their result was recorded. `owner_only` tools are never given to subagents:
    they speak to people, schedule, spawn, or change what is remembered.
    """

    read_only: bool = False
    repeatable: bool = False
    owner_only: bool = False
    origin: Origin = "tool"  # whose words its results are: only those of the author of a message may instruct
    errors_are_text: bool = True  # a result that begins with "Error" is a failure, as plugins report it
    time_limit: float | None = None  # seconds a call of a plugin may take; None: what suits most

    @property
    @abstractmethod
    def name(self) -> str:
        """The name used in tool calls."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What the model needs to know to choose and use the tool."""

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """JSON Schema of the arguments, `{"type": "object", …}`."""

    @abstractmethod
    async def execute(self, *args: Any, **kwargs: Any) -> str | ToolOutput:
        """Run with validated arguments, given by name; a built-in tool declares those of its schema.

        Raises ToolError with a message the model can act on.
        """


def object_schema(*required: str, **properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments, of which those named in `required` must be given."""
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": [*required]} if required else schema
