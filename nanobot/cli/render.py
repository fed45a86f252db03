"""Events of a turn as text: one JSON object a line, or plain words for pipes and simple terminals."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Protocol, Self, TextIO

from nanobot.bus.events import (
    Notice,
    TextDelta,
    TextDiscarded,
    ToolFinished,
    ToolStarted,
    TurnEvent,
    TurnFinished,
    event_to_json,
)
from nanobot.cli.screen import can_print, clean, one_line

HINT_LIMIT = 100
PREVIEW_LIMIT = 160


class Renderer(Protocol):
    """Shows one turn. Failures are not shown here: the caller reports them on stderr."""

    async def __aenter__(self) -> Renderer: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, event: TurnEvent) -> None: ...


class _Still:
    """A renderer that has nothing to start or stop."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class JsonRenderer(_Still):
    """One event per line and nothing else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: TurnEvent) -> None:
        self._out.write(json.dumps(event_to_json(event)) + "\n")
        self._out.flush()


class WholeReplyRenderer(_Still):
    """The reply alone, once it is whole: words of a broken attempt cannot be taken back from a pipe.

    Tool calls and notices go to `notes` (None: nowhere).
    """

    def __init__(self, out: TextIO, notes: TextIO | None) -> None:
        self._out = out
        self._notes = Notes(notes) if notes else None

    def show(self, event: TurnEvent) -> None:
        if self._notes:
            self._notes.show(event)
        if isinstance(event, TurnFinished) and event.text:
            self._out.write(event.text if event.text.endswith("\n") else f"{event.text}\n")
            self._out.flush()


class PlainRenderer(_Still):
    """The reply as it comes, for a terminal that cannot move its cursor."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._notes = Notes(out)
        self._line_open = False

    def show(self, event: TurnEvent) -> None:
        if isinstance(event, TextDelta):
            text = clean(event.text)
            self._out.write(text)
            self._line_open = not text.endswith("\n") if text else self._line_open
        elif self._line_open:
            self._out.write("\n")
            self._line_open = False
        self._notes.show(event)
        self._out.flush()


class Notes:
    """One line per tool call and notice."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._hints: dict[str, str] = {}

    def show(self, event: TurnEvent) -> None:
        match event:
            case ToolStarted(call_id=call_id, hint=hint):
                self._hints[call_id] = hint
            case ToolFinished(call_id=call_id):
                self._print(tool_line(event, self._hints.pop(call_id, event.name), self._out))
            case Notice(text=text) | TextDiscarded(reason=text):
                self._print(one_line(text, 400))

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


def tool_line(event: ToolFinished, hint: str, out: TextIO) -> str:
    """A finished tool call in one line, with the first words of the result when it went wrong."""
    good, bad = ("●", "✗") if can_print("●✗", out) else ("*", "x")
    mark = good if event.outcome == "ok" else bad
    line = f"{mark} {one_line(hint or event.name, HINT_LIMIT)} {seconds(event.seconds)}"
    if event.outcome == "ok":
        return line
    return f"{line}  {one_line(event.preview or event.outcome, PREVIEW_LIMIT)}"


def seconds(value: float) -> str:
    """A duration for people: `0.1s`, `12s`, `3m 20s`."""
    if value < 10:
        return f"{value:.1f}s"
    whole = round(value)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m {whole % 60}s"
