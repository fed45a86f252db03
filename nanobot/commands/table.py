"""The one table of slash commands, for the terminal and for chats. Handlers give text, nothing else.

To add a command, write its handler and add a row to COMMANDS: help and completion follow from it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nanobot.bus.events import SubagentChanged
from nanobot.commands.command_context import CommandContext, Request
from nanobot.commands.context import compact, describe_context
from nanobot.commands.conversations import fork, messages_in_words, new, rename, resume, rewind, sessions
from nanobot.commands.export import export
from nanobot.errors import UsageError
from nanobot.messages import parse_command
from nanobot.store.records import SubagentInfo

_QUEUE_MODES = {
    "queue": "Mode queue: a message that comes while an answer is being written waits for its turn.",
    "steer": "Mode steer: a message that comes while an answer is being written joins it.",
}
_DAILY = 6  # the first commands of the table: help shows them apart
_SEARCHED = 500  # messages back, for what tools have put out
_MODELS = 40  # that are listed at once
_AGENTS = r"\S*|stop\s+\S+"
_SEARCH = r"\S*(?:\s+\S+)?"


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table. `name` has no slash; `arguments` is as shown in the help.

    `form` is what they look like: with anything else behind it, the name only begins a message. `waits`: it
    changes the conversation, so an answer that is being written ends first.
    """

    name: str
    arguments: str
    description: str
    run: Callable[[Request], Awaitable[str]]
    form: str = ""
    waits: bool = False

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()


async def run_command(text: str, session_key: str, context: CommandContext) -> str | None:
    """The answer to a slash command, or None when `text` is an ordinary message.

    Raises UsageError for a word alone that is no whole command, or a mistyped one, and what a handler raises.
    """
    name, arguments = parse_command(text) or ("", "")
    for command in COMMANDS:
        if command.name == name and re.fullmatch(command.form, arguments, re.DOTALL):
            return await command.run(Request(arguments, session_key, context))
        if command.name == name and not arguments:
            raise UsageError(f"{command.usage}, please.")
    if name in context.skills.names():
        return None
    known, words = [command.name for command in COMMANDS], arguments.split()
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.75 if words else 0.6)
    if not name or name in known or len(words) > 1 or (words and not nearest):
        return None
    advice = f"Did you mean /{nearest[0]}?" if nearest else "/help lists the commands."
    raise UsageError(f"There is no command /{name}. {advice} With more words it is a message.")


def acts_at_once(text: str) -> bool:
    """Whether `text` is a command that may run while an answer is being written."""
    name, _ = parse_command(text) or ("", "")
    return any(command.name == name and not command.waits for command in COMMANDS)


async def completions(typed: str, session_key: str, context: CommandContext) -> list[tuple[str, str]]:
    """What a line that begins with a slash may become, and what each is about."""
    name, space, _ = typed.removeprefix("/").partition(" ")
    if not space:
        skills = [(f"/{skill}", "A skill.") for skill in context.skills.names()]
        return [*((f"/{command.name}", command.description) for command in COMMANDS), *skills]
    if name == "model":
        names = ["default", *await context.models(session_key)]
    else:  # `[queue|steer]`
        shown = next((command.arguments for command in COMMANDS if command.name == name), "")
        names = [word for word in shown.strip("[]").split("|") if word.islower() and word.isalpha()]
    return [(f"/{name} {word}", "") for word in names]


async def _help(request: Request) -> str:
    """In lines that need no columns: chats have proportional letters, some terminals 40 cells."""
    lines = [f"{command.usage}: {command.description}" for command in COMMANDS]
    skills = ", ".join(f"/{name}" for name in request.context.skills.names())
    more = [f"Skills, with what you want behind the name: {skills}", *filter(None, [request.context.keys])]
    return "\n".join([*lines[:_DAILY], "", *lines[_DAILY:], "", *more])


async def _stop(request: Request) -> str:
    return await request.context.stop(request.session_key)


async def _status(request: Request) -> str:
    context = request.context
    session = await context.store.sessions.get(request.session_key)
    count = session.messages if session else 0
    title = f" ({session.title})" if session and session.title else ""
    rows = "\n".join(
        [
            f"Model      {await context.model_in_use(request.session_key)}",
            f"Workspace  {context.workspace}",
            f"Session    {request.session_key}, {messages_in_words(count)}{title}",
        ]
    )
    return request.columns(rows)


async def _model(request: Request) -> str:
    context, key = request.context, request.session_key
    if request.arguments:
        await context.use_model(key, request.arguments)
        return f"This conversation now uses {await context.model_in_use(key)}."
    return (
        f"This conversation uses {await context.model_in_use(key)}. /model NAME or /model default changes it."
    )


async def _connect(request: Request) -> str:
    request.context.connect(request.session_key)
    return ""


async def _models(request: Request) -> str:
    names = await request.context.models(request.session_key)
    if not names:
        raise UsageError("The provider lists no models now. /model NAME tries one.")
    words = request.arguments.lower().split()
    found = [name for name in names if all(word in name.lower() for word in words)]
    more = [f"and {len(found) - _MODELS} more: /models TEXT searches"] if len(found) > _MODELS else []
    return "\n".join(
        [*found[:_MODELS], *more, f"{len(found)} of {len(names)} models; /model NAME chooses one."]
    )


async def _queue(request: Request) -> str:
    store, key, wanted = request.context.store, request.session_key, request.arguments.lower()
    if wanted and wanted not in _QUEUE_MODES:
        raise UsageError(f"There is no {wanted[:40]!r}. /queue queue or /queue steer, please.")
    if wanted:
        await store.sessions.set_setting(key, "queue", wanted)
    mode = (await store.sessions.open(key)).settings.get("queue", request.context.queue_mode)
    return f"{_QUEUE_MODES[mode]} /queue queue or /queue steer changes it."


async def _agents(request: Request) -> str:
    action, _, wanted = request.arguments.partition(" ")
    if action == "stop" and wanted:
        ids = [wanted.strip()]
        if ids == ["all"]:
            ids = [info.id for info, _ in await request.context.subagents(request.session_key)]
        stopped = await request.context.stop_subagents(request.session_key, ids)
        if not stopped:
            raise UsageError("No such subagent works here. /agents lists them; stop it where it was begun.")
        return f"Stopped {', '.join(stopped)}."
    if action:
        raise UsageError("/agents lists the subagents; /agents stop ID or /agents stop all stops them.")
    found = await request.context.subagents(request.session_key)
    return "\n".join(_agent_line(*subagent) for subagent in found) or "There are no subagents here."


def _agent_line(info: SubagentInfo, now: SubagentChanged | None) -> str:
    calls, tokens = max(info.calls, now.calls if now else 0), info.tokens or (now.usage.total if now else 0)
    profile = f" ({info.profile})" if info.profile else ""
    tool = f", {now.tool}" if now and now.tool else ""
    count = f"{calls} model {'call' if calls == 1 else 'calls'}, {tokens:,} tokens"
    return f"{info.id} {info.label}{profile}: {info.state}, {info.seconds:.0f} s, {count}{tool}"


async def _context(request: Request) -> str:
    turn = await request.context.prepare(request.session_key)
    return request.columns(await describe_context(turn))


async def _compact(request: Request) -> str:
    request.context.notify("Compacting the conversation …")
    return await compact(await request.context.prepare(request.session_key))


async def _output(request: Request) -> str:
    conversations, number = request.context.store.conversations, request.number or 1
    current = await request.context.store.sessions.get(request.session_key)
    said = await conversations.latest(current.id, _SEARCHED) if current else []
    results = [result for stored in reversed(said) for result in stored.message.tool_results]
    if not 0 < number <= len(results):
        raise UsageError(f"There are {len(results)} outputs of tools here; /output 1 shows the last one.")
    result = results[number - 1]
    return f"{result.name} ({result.outcome}):\n{result.content}"


async def _approve(request: Request) -> str:
    """The answer has acted already: its question may have been the turn this one waited for."""
    allowed = request.context.policy.answered(request.arguments.upper())
    if allowed is None:
        raise UsageError("No question of that code waits here for your answer.")
    return "It was allowed." if allowed else "It was not allowed."


async def _forget(request: Request) -> str:
    if not request.arguments:
        raise UsageError("/forget TEXT, or the id of a fact or message, please.")
    return await request.context.forget(request.session_key, request.arguments)


COMMANDS: tuple[Command, ...] = (
    Command(
        "new", "", "Begin a new conversation, the old one is kept; more words are a message.", new, waits=True
    ),
    Command("resume", "[NUMBER|TITLE]", "Go on with another conversation.", resume, ".*", waits=True),
    Command("model", "[NAME]", "Show or change the model.", _model, r"\S*"),
    Command("status", "", "Show model, workspace and session.", _status),
    Command("stop", "", "Stop the answer and its subagents; again: programs.", _stop, "(?i:now)?"),
    Command("help", "", "List the commands.", _help),
    Command("models", "[TEXT]", "List the models of the provider, or search them.", _models, _SEARCH),
    Command("export", "[md|html|jsonl]", "Write this conversation into a file.", export, r"\S*"),
    Command("connect", "", "Set up another model and go on with it.", _connect, waits=True),
    Command(
        "queue", "[queue|steer]", "Let new messages wait or join the answer.", _queue, r"\S*", waits=True
    ),
    Command("agents", "[stop ID|all]", "List or stop the subagents of this conversation.", _agents, _AGENTS),
    Command("sessions", "", "List the latest conversations.", sessions),
    Command("fork", "", "Go on in a copy; this conversation stays as it is.", fork, waits=True),
    Command(
        "rewind", "[NUMBER]", "Go back to before a message; the rest is kept.", rewind, r"\S*", waits=True
    ),
    Command("rename", "TITLE", "Give this conversation a title.", rename, ".*"),
    Command("context", "", "Show what fills the model's window, in tokens.", _context),
    Command("compact", "", "Summarise older messages now.", _compact, waits=True),
    Command("output", "[N]", "Show the whole output of the N-th last tool call.", _output, r"\S*"),
    Command("approve", "CODE", "Let the tool call run that you were asked about.", _approve, r"\S+"),
    Command("deny", "CODE", "Do not let it run.", _approve, r"\S+"),
    Command(
        "forget", "TEXT|ID", "Forget something for good, after a confirmation.", _forget, ".*", waits=True
    ),
)
