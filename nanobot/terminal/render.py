"""Events of a turn as text: one JSON object a line, or plain words for pipes and simple terminals."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import TextIO

from nanobot.bus import events
from nanobot.columns import cells, shortened
from nanobot.terminal.screen import clean, complain, one_line, wrapped

HINT_LIMIT = 100
_PREVIEW_LIMIT = 160
_FIRST_RETRY = 2  # the attempt of which a pipe is told, for all


class Renderer:
    """Shows turns. How they failed is not shown here: the caller says it."""

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Turns are shown while this runs."""
        yield

    def show(self, event: events.Event) -> None:
        """Called for every event of a turn, in order, and, also between turns, of subagents."""

    def say(self, text: str, style: str = "") -> None:
        """Lines of nanobot itself, for the owner; `style` is one of rich."""
        print(wrapped(text, sys.stdout), flush=True)


class JsonRenderer(Renderer):
    """One event per line and nothing else."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, event: events.Event) -> None:
        print(json.dumps(events.event_to_json(event)), file=self._out, flush=True)


class PlainRenderer(Renderer):
    """The reply alone, once it is whole: words of a broken attempt cannot be taken back from a pipe.

    On stderr a line for each notice and, with `tools`, for each tool call.
    """

    def __init__(self, out: TextIO, *, tools: bool) -> None:
        self._out = out
        self._tools = tools
        self._hints: dict[str, str] = {}
        self._subagents: dict[str, tuple[str, str]] = {}  # what was said of each

    def show(self, event: events.Event) -> None:
        match event:
            case events.ToolStarted(call_id=call_id, hint=hint):
                self._hints[call_id] = hint
            case events.ToolFinished(call_id=call_id, name=name) if self._tools:
                complain(tool_line(event, self._hints.pop(call_id, name)))
            case events.Notice(text=text, attempt=attempt) if attempt <= _FIRST_RETRY:
                complain(one_line(text, 400))
            case events.ApprovalAsked():
                complain(question(event))
            case events.SubagentChanged():
                self._show_subagent(event)
            case events.TurnFinished(text=text) if text:
                text = clean(text) if self._out.isatty() else text
                print(text.removesuffix("\n"), file=self._out, flush=True)

    def _show_subagent(self, change: events.SubagentChanged) -> None:
        said, now = self._subagents.get(change.id, ("", "")), (change.state, change.tool)
        if now != said and (change.tool or change.state != said[0]):
            complain(subagent_line(change))
            self._subagents[change.id] = now


def tool_line(event: events.ToolFinished, hint: str) -> str:
    """A finished tool call in one line, with the first words of the result when it went wrong."""
    call = f"{one_line(hint or event.name, HINT_LIMIT)} {seconds(event.seconds)}"
    if not has_failed(event):
        return f"● {call}"
    why = f"exit code {event.exit_code}" if event.exit_code else event.preview or event.outcome
    return f"✗ {call}  {one_line(why, _PREVIEW_LIMIT)}"


def has_failed(event: events.ToolFinished) -> bool:
    """Whether a call did not do what it was to do: an error, or a command that says so by its exit code."""
    return event.outcome != "ok" or bool(event.exit_code)


def question(event: events.ApprovalAsked) -> str:
    """What the owner is asked before a call runs."""
    return (
        f"May {one_line(event.name, HINT_LIMIT)} run?\n{clean(event.arguments)}\ny and Enter: yes; Enter: no."
    )


def subagent_line(event: events.SubagentChanged) -> str:
    """How a subagent goes, in one line."""
    label = one_line(event.label, 60)
    if event.state in ("waiting", "running"):
        return one_line(f"Subagent {label}: {event.tool or event.state}", _PREVIEW_LIMIT)
    mark = "●" if event.state == "done" else "✗"
    calls = f"{event.calls} model {'call' if event.calls == 1 else 'calls'}"
    why = f"  {one_line(event.text, _PREVIEW_LIMIT)}" if event.state == "error" else ""
    return f"{mark} Subagent {label}: {event.state}, {seconds(event.seconds)}, {calls}{why}"


def seconds(value: float) -> str:
    """A duration for people: `0.1s`, `3m 20s`."""
    if value < 60:
        return f"{value:.1f}s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m {rest}s"


def footer(model: str, finished: events.TurnFinished, spent: float, width: int) -> str:
    """Model, how full its window is, tokens, cost if the provider said it (US dollars), seconds `spent`.

    One line of at most `width` cells, from 40 on: the last ones are left out where they have no room.
    """
    usage, context = finished.usage, finished.context
    used = (context.tokens or context.estimated) / (context.window or 1)
    parts = [f"context {used:.0%}", f"{_short(usage.input_tokens)} in, {_short(usage.output_tokens)} out"]
    if usage.cost:
        parts.append(f"${usage.cost:.2f}" if usage.cost >= 0.1 else f"${max(usage.cost, 0.0001):.4f}")
    parts.append(seconds(spent))
    name = model.rpartition("/")[2]
    while len(parts) > 2 and cells(" · ".join([name, *parts])) > width:
        parts.pop()
    line = " · ".join(parts)
    return f"{shortened(name, max(1, width - len(line) - 3))} · {line}"


def _short(count: int) -> str:
    """A number of tokens: `950`, `1.5k`, `12k`."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"
