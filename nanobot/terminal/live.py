"""Events of a turn on a capable terminal: streaming Markdown above, what is going on now below."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.text import Text

from nanobot.bus import events
from nanobot.terminal.markdown import AnswerText, render
from nanobot.terminal.render import (
    HINT_LIMIT,
    Renderer,
    has_failed,
    question,
    seconds,
    subagent_line,
    tool_line,
)
from nanobot.terminal.screen import Screen, clean, one_line

_TICK = 0.1  # seconds between repaints when nothing arrives
_PATIENCE = 1.0  # seconds of silence before the waiting line appears
_OUTPUT_LINES = 3  # of a running tool
_DIFF_LINES = 12
_DIFF_STYLES = {"+": "green", "-": "red"}
_PRINTED_LIMIT = 2_000  # characters
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


@dataclass
class _RunningTool:
    hint: str
    started: float
    output: str = ""


class LiveRenderer(Renderer):
    """Prints each finished block of the answer once, and repaints only what is going on.

    That is the last block of the text, the running tools, and a waiting line when all is silent.
    """

    def __init__(self, screen: Screen, out: TextIO, *, markdown: bool) -> None:
        self._console = Console(file=out, highlight=False, markup=False, emoji=False)
        self._screen = screen
        self._answer = AnswerText(self._console, markdown=markdown)
        self._growing: list[str] = []  # lines of the answer that may still change
        self._is_first = True  # nothing was printed yet
        self._after_answer = False  # whether a blank line goes before the next note
        self._tools: dict[str, _RunningTool] = {}
        self._subagents: dict[str, _RunningTool] = {}
        self._in_turn = False
        self._is_printed = False  # something of what the model is saying
        self._retrying = ""  # why, and for which time, the model is asked again
        self._silent_since = 0.0
        self._next_paint = 0.0
        self._ticker: asyncio.Task[None] | None = None
        self._printed = io.StringIO()  # by plugins: it must not get between the live lines

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """What is printed meanwhile stands above what is going on."""
        try:
            with contextlib.redirect_stdout(self._printed), contextlib.redirect_stderr(self._printed):
                yield
        finally:
            if self._ticker:
                self._ticker.cancel()
            self._end_answer()
            self._show_printed()
            self._screen.paint((), ())

    def show(self, event: events.Event) -> None:
        now = time.monotonic()
        if not isinstance(event, events.ReasoningDelta | events.SubagentChanged):
            self._silent_since = now
        match event:
            case events.TurnStarted():
                self._in_turn, self._is_printed = True, False
                self._answer.separate = self._after_answer = not self._is_first
                self._tick_on()
            case events.TextDelta(text=text):
                self._answer.add(text)
            case events.TextDiscarded():
                self._answer.discard()
                if self._is_printed:
                    self._note("The answer starts again.", "yellow")
                    self._is_printed = False
            case events.Notice(text=text, attempt=attempt) if attempt:
                self._retrying = one_line(text, 600)
            case events.Notice(text=text):
                self._note(one_line(text, 600), "dim")
            case events.UsageReported():
                self._is_printed, self._retrying = False, ""
            case events.ToolStarted(call_id=call_id, hint=hint):
                self._end_answer()
                self._tools[call_id] = _RunningTool(one_line(hint, HINT_LIMIT), now)
            case events.ToolOutputDelta(call_id=call_id, text=text) if call_id in self._tools:
                tool = self._tools[call_id]
                tool.output = (tool.output + text)[-4000:]
            case events.ApprovalAsked():
                self._note(question(event), "yellow")
            case events.ToolFinished():
                self._finish_tool(event)
            case events.SubagentChanged():
                self._show_subagent(event)
            case events.TurnFinished():
                self._in_turn, self._retrying = False, ""
                self._tools.clear()
                self._end_answer()
                self._show_printed()
        if now >= self._next_paint:
            self.repaint()

    def say(self, text: str, style: str = "") -> None:
        """As a renderer's: above a block of the answer that is being written."""
        lines = render(self._console, Text(clean(text)), self._screen.width, style=style)
        self._print(lines)
        self._answer.separate, self._after_answer = True, False

    def _print(self, final: Sequence[str]) -> None:
        """Lines that stay, above all that is going on."""
        self._is_first = self._is_first and not final
        self._screen.paint(final, [*self._growing, *self._status()])

    def repaint(self) -> None:
        """Repaint, and rest five times as long as that took: a long block must not eat the processor."""
        before = time.monotonic()
        final, self._growing = self._answer.advance(self._screen.width)
        self._after_answer = self._after_answer or bool(final)
        self._is_printed = self._is_printed or bool(final)
        self._print(final)
        after = time.monotonic()
        self._next_paint = after + max(0.05, 5 * (after - before))

    def _finish_tool(self, event: events.ToolFinished) -> None:
        tool = self._tools.pop(event.call_id, None)
        self._show_printed()
        line = Text(tool_line(event, tool.hint if tool else event.name))
        line.stylize("red" if has_failed(event) else "green", 0, 1)
        line.stylize("dim", 1)
        if tool and has_failed(event) and tool.output.strip():
            line.append(f"\n{_last_lines(tool.output)}", "dim")
        for changed in clean(event.diff).split("\n")[:_DIFF_LINES] if event.diff else ():
            line.append(f"\n  {changed}", _DIFF_STYLES.get(changed[:1], "dim"))
        self._note(line)

    def _show_printed(self) -> None:
        text = clean(self._printed.getvalue()).strip()[-_PRINTED_LIMIT:]
        self._printed.seek(0)
        self._printed.truncate()
        if text:
            self.say("\n" * self._after_answer + text, "dim")

    def _show_subagent(self, change: events.SubagentChanged) -> None:
        if change.state in ("waiting", "running"):
            hint = one_line(subagent_line(change), HINT_LIMIT)
            self._subagents[change.id] = _RunningTool(hint, time.monotonic() - change.seconds)
            self._tick_on()
            return
        self._subagents.pop(change.id, None)
        line = Text(subagent_line(change), style="dim")
        line.stylize("green" if change.state == "done" else "red", 0, 1)
        self._note(line)

    def _note(self, text: str | Text, style: str = "") -> None:
        """A final line beside the answer, set off from it by a blank one."""
        self._end_answer()
        lines = render(self._console, text, self._screen.width, style=style)
        self._print(["", *lines] if self._after_answer else lines)
        self._after_answer, self._answer.separate = False, True

    def _end_answer(self) -> None:
        lines, self._growing = self._answer.finish(self._screen.width), []
        self._after_answer = self._after_answer or bool(lines)
        self._print(lines)

    def _status(self) -> list[str]:
        """What is going on apart from the answer, one line each."""
        now = time.monotonic()
        spinner = _SPINNER[int(now / _TICK) % len(_SPINNER)]
        lines: list[str] = []
        for tool in (*self._tools.values(), *self._subagents.values()):
            lines.append(f"{spinner} {tool.hint} {seconds(now - tool.started)}")
            if tool.output.strip():
                lines.append(_last_lines(tool.output))
        if not lines and self._in_turn and now - self._silent_since > _PATIENCE:
            lines = [f"{spinner} thinking… {seconds(now - self._silent_since)}"]
        width = self._screen.width
        status = render(self._console, "\n".join(lines), width, style="dim", cut=True) if lines else []
        again = render(self._console, self._retrying, width, style="yellow") if self._retrying else []
        return [*again, *status]

    def _tick_on(self) -> None:
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while self._in_turn or self._subagents:
            await asyncio.sleep(_TICK)
            self._show_printed()
            if time.monotonic() >= self._next_paint:
                self.repaint()


def _last_lines(output: str) -> str:
    return "\n".join(f"  {line}" for line in clean(output).rstrip().split("\n")[-_OUTPUT_LINES:])
