"""The one table of slash commands, for the terminal and for chats. Handlers give text, nothing else.

To add a command, write its handler and add a row to COMMANDS: help and completion follow from it.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nanobot.errors import UsageError
from nanobot.session.store import SessionInfo, Store

# A path such as /etc/hosts is no command.
_COMMAND = re.compile(r"/([A-Za-z][\w-]*)(?:@\w+)?(?:\s+(.*))?", re.DOTALL)
_LISTED_SESSIONS = 10
_QUEUE_MODES = {
    "queue": "Mode queue: a message that comes while an answer is being written waits for its turn.",
    "steer": "Mode steer: a message that comes while an answer is being written joins it.",
}


class CommandHost(Protocol):
    """What commands need from the program around them."""

    @property
    def store(self) -> Store: ...
    @property
    def workspace(self) -> Path: ...
    @property
    def queue_mode(self) -> str:
        """`queue` or `steer`, for sessions that did not choose."""

    async def model_in_use(self, session_key: str) -> str:
        """The session's model and who serves it, in words. Raises ProviderError."""

    async def use_model(self, session_key: str, model: str) -> None:
        """Answer the session with `model` from now on. Raises ProviderError."""

    async def list_sessions(self, limit: int) -> list[SessionInfo]:
        """The newest sessions this place may see."""

    async def stop(self, session_key: str) -> bool:
        """Cancel the turn that runs in the session; False when none does."""


@dataclass(frozen=True, slots=True)
class Request:
    """One use of a command: what was typed behind its name, and in which session."""

    arguments: str
    session_key: str
    host: CommandHost


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


def parse_command(text: str) -> tuple[str, str] | None:
    """Name and arguments when `text` is written like a command, known or not."""
    match = _COMMAND.fullmatch(text.strip())
    return (match[1].lower(), (match[2] or "").strip()) if match else None


async def run_command(text: str, session_key: str, host: CommandHost) -> str | None:
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
    return await command.run(Request(arguments, session_key, host))


def _unknown(name: str) -> str:
    nearest = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    advice = f"Did you mean /{nearest[0]}?" if nearest else "/help lists the commands."
    return f"There is no command /{name}. {advice}"


async def _new(request: Request) -> str:
    await request.host.store.start_over(request.session_key)
    return "A new conversation begins. The earlier one is kept and can still be found."


async def _help(request: Request) -> str:
    width = max(len(command.usage) for command in COMMANDS)
    return "\n".join(f"{command.usage:<{width}}  {command.description}" for command in COMMANDS)


async def _stop(request: Request) -> str:
    stopped = await request.host.stop(request.session_key)
    return "Stopped." if stopped else "Nothing is running."


async def _status(request: Request) -> str:
    host = request.host
    session = await host.store.session(request.session_key)
    count = session.messages if session else 0
    return "\n".join(
        [
            f"Model      {await host.model_in_use(request.session_key)}",
            f"Workspace  {host.workspace}",
            f"Session    {request.session_key}, {count} {'message' if count == 1 else 'messages'}",
        ]
    )


async def _model(request: Request) -> str:
    host, key = request.host, request.session_key
    if request.arguments:
        await host.use_model(key, request.arguments)
        return f"This conversation now uses {await host.model_in_use(key)}."
    return f"This conversation uses {await host.model_in_use(key)}. /model NAME changes it."


async def _queue(request: Request) -> str:
    store, key, wanted = request.host.store, request.session_key, request.arguments.lower()
    if wanted and wanted not in _QUEUE_MODES:
        raise UsageError(f"There is no {wanted[:40]!r}. /queue queue or /queue steer, please.")
    if wanted:
        await store.set_setting(key, "queue", wanted)
    mode = (await store.settings(key)).get("queue", request.host.queue_mode)
    return f"{_QUEUE_MODES[mode]} /queue queue or /queue steer changes it."


async def _sessions(request: Request) -> str:
    sessions = await request.host.list_sessions(_LISTED_SESSIONS)
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
