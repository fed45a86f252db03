"""A terminal in front of the hub: what its owner writes is submitted, and what comes of it is shown.

The turns run in this process, in the dispatcher that every nanobot has; nobody else takes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import TextIO

from nanobot.app import App
from nanobot.bus.events import (
    ApprovalAsked,
    Event,
    Notice,
    SubagentChanged,
    ToolFinished,
    ToolStarted,
    TurnFinished,
    TurnStarted,
)
from nanobot.bus.hub import Subscription
from nanobot.messages import InboundMessage, Usage, parse_command
from nanobot.terminal.options import AgentOptions
from nanobot.terminal.render import JsonRenderer, PlainRenderer, Renderer
from nanobot.terminal.screen import Screen, complain, one_line, terminal_is_smart

_STOPPED = TurnFinished("cancelled", "", Usage())
GOODBYES = frozenset({"exit", "quit", "/exit", "/quit", ":q"})


class TerminalSession:
    """The session `key`, talked to in this terminal. Use `terminal_session`.

    `waiting` is what the owner has written while a turn runs, in order; `question` the code of one that waits
    for a yes or no.
    """

    def __init__(
        self, app: App, key: str, renderer: Renderer, events: Subscription, working: asyncio.Task[None]
    ) -> None:
        self.key = key
        self.waiting: list[str] = []
        self.question = ""
        self.model = ""  # of the last turn
        self._app = app
        self._renderer = renderer
        self._events = events
        self._working = working
        self._next: tuple[InboundMessage | None, Event] | None = None  # of a turn, not shown yet
        self._tools: set[str] = set()  # calls at work
        self._subagents: dict[str, tuple[InboundMessage, SubagentChanged]] = {}  # at work
        self._usage = Usage()  # of subagents that have ended and were not told of

    @property
    def labels(self) -> list[str]:
        """The subagents that have not ended."""
        return [change.label for _, change in self._subagents.values()]

    @property
    def turn_waits(self) -> bool:
        """Whether a turn has begun that was not shown yet."""
        return self._next is not None

    async def until_turn(self) -> None:
        """Show how subagents go until there is a turn to show. Raises StorageError when the store fails."""
        while self._next is None:
            try:
                inbound, event = await anext(self._events)
            except StopAsyncIteration:
                self._working.result()  # raises what ended it
            if isinstance(event, SubagentChanged):
                self._note(inbound, event)
            elif inbound.source != "order":
                self._next = inbound, event

    def _note(self, order: InboundMessage, change: SubagentChanged) -> None:
        if change.state in ("waiting", "running"):
            self._subagents[change.id] = order, change
        else:
            self._subagents.pop(change.id, None)
            self._usage += change.usage
        self._renderer.show(change)

    async def another_turn(self) -> bool:
        """Wait until another turn begins, or nothing is left to begin one. Cancelling it stops the rest."""
        try:
            await self._until_turn_or_idle()
        except asyncio.CancelledError:
            if not self._subagents and not self._app.dispatcher.running:
                raise
            await self._stop()
        return self.turn_waits

    async def _until_turn_or_idle(self) -> None:
        turn = asyncio.create_task(self.until_turn())
        idle = asyncio.create_task(self._app.dispatcher.idle.wait())
        try:
            await asyncio.wait({turn, idle}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            turn.cancel()
            idle.cancel()
            await asyncio.gather(turn, idle, return_exceptions=True)

    async def show_turn(self, text: str = "") -> TurnFinished:
        """Submit what the owner has written, if anything, and show a turn. Cancelling it stops the turn.

        Raises StorageError when the store has failed.
        """
        finished, cancelled = None, False
        while finished is None:
            try:
                if cancelled:
                    cancelled = False
                    await self._stop()
                elif text:
                    submitted, text = text, ""
                    await self._submit(submitted)
                else:
                    await self.until_turn()
                    await self.steer()
            except asyncio.CancelledError:
                if self._working.done():
                    raise
                cancelled = True
            finished = await self._show_next()
        return finished

    async def _submit(self, text: str) -> None:
        if self._app.mcp:
            async for note in self._app.mcp.settle():
                self._renderer.show(Notice(note))
        channel, _, chat_id = self.key.partition(":")
        folder = ""
        with contextlib.suppress(OSError):  # it was removed meanwhile
            folder = os.getcwd()  # noqa: PTH109  as the shell calls it
        await self._app.hub.submit(
            InboundMessage(
                channel,
                chat_id,
                sender_id="owner",
                text=text,
                external_id=os.urandom(16).hex(),
                session_key=self.key,
                sent_at=time.time(),
                owner=self._app.owner,
                folder=folder,
            )
        )

    async def steer(self) -> None:
        """Let what waits join the running turn after its tool call, if `/queue` says so."""
        if not (self.waiting and self._tools):
            return
        mode = (await self._app.store.sessions.open(self.key)).settings.get("queue")
        if (mode or self._app.config.agents.defaults.queue_mode) != "steer":
            return
        while self.waiting and not (parse_command(self.waiting[0]) or self.waiting[0].lower() in GOODBYES):
            text = self.waiting.pop(0)
            self._renderer.say(said(text))
            await self._submit(text)

    async def _show_next(self) -> TurnFinished | None:
        """Show an event; the last one of a turn is given back."""
        if self._next is None:
            return None
        (inbound, event), self._next = self._next, None
        if isinstance(event, TurnFinished) and inbound and inbound.source == "report":
            event = event._replace(usage=event.usage + self._usage)
            self._usage = Usage()
        if isinstance(event, TurnFinished) and event.stop_reason == "cancelled":
            with contextlib.suppress(asyncio.CancelledError):  # first its subagents end
                await self._until_turn_or_idle()
        match event:
            case TurnStarted(model=model):
                self.model = model
            case ToolStarted(call_id=call_id):
                self._tools.add(call_id)
            case ApprovalAsked(code=code):
                self.question = code
            case ToolFinished(call_id=call_id):
                self._tools.discard(call_id)
                self.question = ""
            case TurnFinished():
                self._tools.clear()
                self.question = ""
        self._renderer.show(event)
        return event if isinstance(event, TurnFinished) else None

    def answer(self, line: str) -> bool:
        """Let a line answer the question that waits, if one does and the line is an answer to it."""
        word = line.strip().lower()
        if not self.question or word not in ("", "y", "yes", "n", "no"):
            return False
        self._app.assistant.policy.answer(self.key, self.question, word in ("y", "yes"))
        self.question = ""
        return True

    async def _stop(self) -> None:
        """Stop the running turn and its subagents. The task that was cancelled to say so goes on."""
        if task := asyncio.current_task():
            task.uncancel()
        if not await self._app.dispatcher.stop(self.key):
            await self._app.store.inbox.withdraw(self.key, self._app.owner)
            self._next = self._next or (None, _STOPPED)

    async def stop_subagents(self) -> None:
        """Stop all that this terminal runs, of whatever session."""
        for parent in {order.reply_to.session_key for order, _ in self._subagents.values() if order.reply_to}:
            await self._app.dispatcher.stop_subagents(parent, None)


def said(text: str) -> str:
    """What the owner has written, as the conversation shows it."""
    return "> " + text.replace("\n", "\n  ")


@contextlib.asynccontextmanager
async def terminal_session(app: App, key: str, renderer: Renderer) -> AsyncIterator[TerminalSession]:
    """A session in this terminal. What went away with the process that had it before is told first."""
    is_known = await app.store.sessions.get(key) is not None
    for info in await app.store.subagents.close_lost(key) if is_known else ():
        how, see = "was lost before it had begun", ""
        if info.begun:
            how = "was cut off" if info.state == "interrupted" else "had ended, but its report was not told"
            see = f" See: nanobot session show subagent:{info.id}"
        complain(f"The subagent {one_line(info.label, 60)!r} {how}.{see}")
    with app.hub.subscribe() as events:
        async with app.working_for_itself() as working:
            working.add_done_callback(lambda _: events.end())
            yield TerminalSession(app, key, renderer, events, working)


async def notes_for(app: App, session: str) -> list[str]:
    """What the owner must know before the first turn. Raises ProviderError when no model can serve it."""
    resolution, provider = await app.models.get(await app.assistant.model_of(session))
    notes = [*app.notices, *filter(None, [provider.traits(resolution.model).note])]
    return notes + await app.profile_faults()


def stop_in_good_order() -> None:
    """Let SIGTERM and the end of the terminal cancel this task as Ctrl-C does: no command stays behind."""
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if task and signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def make_renderer(options: AgentOptions, out: TextIO | None = None, screen: Screen | None = None) -> Renderer:
    """How this process shows a turn, given its options, `out` (stdout), and the `screen` of a prompt."""
    out = out or sys.stdout
    if options.json_events:
        return JsonRenderer(out)
    if not terminal_is_smart(out):
        return PlainRenderer(out, tools=options.logs or sys.stderr.isatty())
    from nanobot.terminal.live import LiveRenderer

    return LiveRenderer(screen or Screen(out), out, markdown=options.markdown)


def exit_code(finished: TurnFinished, say: Callable[[str], None] = lambda _: None) -> int:
    """The exit code of a turn; `say` is told why there is no (whole) answer."""
    if finished.stop_reason in ("done", "cancelled"):
        return 0 if finished.stop_reason == "done" else 130
    say(f"Error: {finished.error or 'nanobot stopped at a limit before it was done. Ask it to go on.'}")
    return 1
