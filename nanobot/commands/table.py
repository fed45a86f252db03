"""The one table of slash commands, for the terminal and for chats. Handlers give text, nothing else.

To add a command, write its handler and add a row to COMMANDS: help and completion follow from it.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nanobot.agent.slash import parse_command
from nanobot.commands.desk import SessionDesk
from nanobot.errors import UsageError
from nanobot.session.store import SessionInfo

_LISTED_SESSIONS = 10
_QUEUE_MODES = {
    "queue": "Mode queue: a message that comes while an answer is being written waits for its turn.",
    "steer": "Mode steer: a message that comes while an answer is being written joins it.",
}


@dataclass(frozen=True, slots=True)
class Request:
    """One use of a command: what was typed behind its name, and where."""

    arguments: str
    session_key: str
    desk: SessionDesk


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table. `name` has no slash; `arguments` is as shown in the help."""

    name: str
    arguments: str
    description: str
    run: Callable[[Request], Awaitable[str]]

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()


async def run_command(text: str, session_key: str, desk: SessionDesk) -> str | None:
    """The answer to a slash command, or None when `text` is an ordinary message.

    Raises UsageError for an unknown command, naming the nearest one, and whatever its handler raises.
    """
    parsed = parse_command(text)
    if parsed is None:
        return None
    name, arguments = parsed
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        raise UsageError(_unknown(name))
    return await command.run(Request(arguments, session_key, desk))


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    advice = f"Did you mean /{nearest[0]}?" if nearest else "/help lists the commands."
    return f"There is no command /{name}. {advice}"


async def _new(request: Request) -> str:
    await request.desk.store.start_over(request.session_key)
    return "A new conversation begins. The earlier one is kept and can still be found."


async def _help(request: Request) -> str:
    width = max(len(command.usage) for command in COMMANDS)
    return "\n".join(f"{command.usage:<{width}}  {command.description}" for command in COMMANDS)


async def _stop(request: Request) -> str:
    stopped = await request.desk.stop(request.session_key)
    return "Stopped." if stopped else "Nothing is running."


async def _status(request: Request) -> str:
    desk = request.desk
    session = await desk.store.session(request.session_key)
    count = session.messages if session else 0
    return "\n".join(
        [
            f"Model      {await desk.model_in_use(request.session_key)}",
            f"Workspace  {desk.workspace}",
            f"Session    {request.session_key}, {count} {'message' if count == 1 else 'messages'}",
        ]
    )


async def _model(request: Request) -> str:
    desk, key = request.desk, request.session_key
    if request.arguments:
        await desk.use_model(key, request.arguments)
        return f"This conversation now uses {await desk.model_in_use(key)}."
    return f"This conversation uses {await desk.model_in_use(key)}. /model NAME changes it."


async def _queue(request: Request) -> str:
    store, key, wanted = request.desk.store, request.session_key, request.arguments.lower()
    if wanted and wanted not in _QUEUE_MODES:
        raise UsageError(f"There is no {wanted[:40]!r}. /queue queue or /queue steer, please.")
    if wanted:
        await store.set_setting(key, "queue", wanted)
    mode = (await store.settings(key)).get("queue", request.desk.queue_mode)
    return f"{_QUEUE_MODES[mode]} /queue queue or /queue steer changes it."


async def _sessions(request: Request) -> str:
    sessions = await request.desk.list_sessions(_LISTED_SESSIONS)
    if not sessions:
        return "There are no sessions yet."
    return "\n".join(_session_line(session, request.session_key) for session in sessions)


def _session_line(session: SessionInfo, current: str) -> str:
    mark = "*" if session.key == current else " "
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(session.updated_at))
    return f"{mark} {session.key:<24} {session.messages:>5}  {when}  {session.title}".rstrip()


COMMANDS: tuple[Command, ...] = (
    Command("new", "", "Begin a new conversation; the earlier one is kept.", _new),
    Command("help", "", "List the commands.", _help),
    Command("stop", "", "Stop the answer that is being written.", _stop),
    Command("status", "", "Show model, workspace and session.", _status),
    Command("model", "[NAME]", "Show or change the model.", _model),
    Command("queue", "[queue|steer]", "Let new messages wait, or join the running answer.", _queue),
    Command("sessions", "", "List the latest conversations.", _sessions),
)
