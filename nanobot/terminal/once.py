"""`nanobot agent` for one reply, and what a conversation needs as well: its session, notes and renderer."""

from __future__ import annotations

import asyncio
import math
import select
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from nanobot.app import App, open_app
from nanobot.bus.events import Notice, TurnFinished
from nanobot.errors import UsageError
from nanobot.messages import Usage, parse_command
from nanobot.security.process import leave_running
from nanobot.store.records import SessionInfo
from nanobot.store.store import Store
from nanobot.terminal.options import AgentOptions, conversation_named, load_and_warn, session_key
from nanobot.terminal.render import JsonRenderer, PlainRenderer, Renderer
from nanobot.terminal.screen import Screen, clean, complain, terminal_is_smart
from nanobot.terminal.session import terminal_session

DEFAULT_SESSION = "cli:direct"

_REMEMBER = 30.0  # seconds a process may go on after its only reply, to consolidate memory


async def choose_session(options: AgentOptions, store: Store) -> str:
    """The session that --session, --continue or --resume names, with its conversation. Raises UsageError."""
    found = None
    if options.resume:
        found = await _pick_conversation(store)
    elif options.latest:
        newest = await store.conversations.newest(1000)
        found = next((info for info in newest if info.key.startswith("cli:")), None)
    elif options.session:
        found = await conversation_named(store, options.session)
        if found is None:
            return session_key(options.session)
    if found is None:
        return DEFAULT_SESSION
    await store.conversations.go_on(found.id)
    return found.key


async def _pick_conversation(store: Store) -> SessionInfo:
    """The one that the owner chooses, by its number on a simple terminal. Raises UsageError."""
    from nanobot.commands.conversations import list_of_sessions

    listed = [info for info in await store.conversations.newest(500, subagents=False) if info.messages]
    if not listed:
        raise UsageError("There are no conversations yet. `nanobot agent` begins one.")
    if terminal_is_smart():
        from nanobot.terminal.picker import pick_conversation

        if chosen := await pick_conversation(store, listed):
            return chosen
        raise UsageError("No conversation was chosen.")
    print(clean(list_of_sessions(listed)))
    while True:
        answer = input("Number (Enter: 1): ").strip() or "1"  # noqa: ASYNC250  nothing else happens
        if answer.isdecimal() and 0 < int(answer) <= len(listed):
            return listed[int(answer) - 1]
        complain(f"Please give a number from 1 to {len(listed)}.")


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


async def answer_once(options: AgentOptions, out: TextIO) -> int:
    text = _whole_message(options.message)
    stop_in_good_order()
    async with open_app(load_and_warn().config, model=options.model) as app:
        if app.mcp:
            app.mcp.start(first_turn=math.inf)  # there is no later one in which their tools could come
        key = await choose_session(options, app.store)
        if options.message is not None and parse_command(options.message):
            from nanobot.commands.command_context import CommandContext
            from nanobot.commands.table import run_command

            reply = await run_command(options.message, key, CommandContext(app))
            if reply is not None:
                if options.json_events:
                    JsonRenderer(out).show(TurnFinished("done", reply, Usage()))
                else:
                    print(reply, file=out, flush=True)
                await _remember(app, options.model, out)
                return 0
        renderer = make_renderer(options, out)
        for note in await notes_for(app, key):
            renderer.show(Notice(note))
        async with terminal_session(app, key, renderer) as session:
            with renderer.shown():
                finished = [await session.show_turn(text)]
                stopped = finished[0].stop_reason == "cancelled"
                try:
                    while not stopped and await session.another_turn():
                        finished.append(await session.show_turn())
                        stopped = finished[-1].stop_reason == "cancelled"
                except asyncio.CancelledError:  # nothing was left to be stopped
                    stopped = True
        if not stopped:
            await _remember(app, options.model, out)
        say = (lambda _: None) if options.json_events else complain
        return max(exit_code(one, say) for one in finished)


async def _remember(app: App, model: str, out: TextIO) -> None:
    """Have a part of what is owed consolidated, now that the reply is on `out`: by a process of its own, or
    here if memory.consolidateAfterReply says so, for `_REMEMBER` seconds or until Ctrl-C.
    """
    out.flush()
    if not app.config.memory.consolidate_after_reply:
        if await app.memory.is_left_to_us():
            beside = ("memory", "consolidate", "--beside", f"--model={model}")
            leave_running([sys.executable, "-m", "nanobot", *beside])
        return
    hint = asyncio.get_running_loop().call_later(1.5, _say_what_takes_time)
    try:
        async with asyncio.timeout(_REMEMBER + 1):
            await app.memory.remember(most=1, seconds=_REMEMBER)
    except (TimeoutError, asyncio.CancelledError):
        pass
    finally:
        hint.cancel()


def _say_what_takes_time() -> None:
    if sys.stderr.isatty():
        complain("Remembering the conversation (Ctrl-C skips that) ...")


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


def _whole_message(message: str | None) -> str:
    """The text of -m, followed by what is piped in. Raises UsageError when there is nothing."""
    given = (message or "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    piped = b""
    if not sys.stdin.isatty():
        if message is not None and not select.select([sys.stdin], [], [], 3.0)[0]:
            complain("Waiting for standard input to end; add </dev/null if nothing is coming.")
        piped = sys.stdin.buffer.read()
    texts = (given, piped.decode("utf-8", "replace").removesuffix("\n"))
    text = "\n\n".join(part for part in texts if part.strip())
    if not text:
        raise UsageError('There is nothing to answer. Write `nanobot agent -m "…"` or pipe text in.')
    return text
