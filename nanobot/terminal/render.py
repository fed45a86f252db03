"""Events of a turn as text: one JSON object a line, or plain words for pipes and simple terminals."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Self, TextIO

from nanobot.bus import events
from nanobot.terminal.screen import clean, one_line

HINT_LIMIT = 100
_PREVIEW_LIMIT = 160


class Renderer:
    """Shows one turn. Failures are not shown here: the caller reports them on stderr."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, event: events.TurnEvent) -> None:
        """Called for every event of the turn, in order."""


class JsonRenderer(Renderer):
    """One event per line and nothing else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: events.TurnEvent) -> None:
        print(json.dumps(events.event_to_json(event)), file=self._out, flush=True)


class Notes(Renderer):
    """One line per notice and, with `tools`, per tool call."""

    def __init__(self, out: TextIO, *, tools: bool) -> None:
        self._out = out
        self._tools = tools
        self._hints: dict[str, str] = {}

    def show(self, event: events.TurnEvent) -> None:
        match event:
            case events.ToolStarted(call_id=call_id, hint=hint):
                self._hints[call_id] = hint
            case events.ToolFinished(call_id=call_id, name=name) if self._tools:
                print(tool_line(event, self._hints.pop(call_id, name)), file=self._out, flush=True)
            case events.Notice(text=text) | events.TextDiscarded(reason=text):
                print(one_line(text, 400), file=self._out, flush=True)


class WholeReplyRenderer(Renderer):
    """The reply alone, once it is whole: words of a broken attempt cannot be taken back from a pipe.

    Tool calls and notices go to `notes`.
    """

    def __init__(self, out: TextIO, notes: Renderer) -> None:
        self._out = out
        self._notes = notes

    def show(self, event: events.TurnEvent) -> None:
        self._notes.show(event)
        if isinstance(event, events.TurnFinished) and event.text:
            text = clean(event.text) if self._out.isatty() else event.text
            print(text.removesuffix("\n"), file=self._out, flush=True)


def tool_line(event: events.ToolFinished, hint: str) -> str:
    """A finished tool call in one line, with the first words of the result when it went wrong."""
    hint = one_line(hint or event.name, HINT_LIMIT)
    if event.outcome == "ok":
        return f"● {hint} {seconds(event.seconds)}"
    return f"✗ {hint} {seconds(event.seconds)}  {one_line(event.preview or event.outcome, _PREVIEW_LIMIT)}"


def seconds(value: float) -> str:
    """A duration for people: `0.1s`, `3m 20s`."""
    if value < 60:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m {rest}s"
