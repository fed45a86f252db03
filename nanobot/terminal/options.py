"""What a command that somebody watches is given: its configuration, and the options of `nanobot agent`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanobot.config.loader import LoadedConfig, load_config
from nanobot.errors import UsageError
from nanobot.terminal.screen import clean, complain, terminal_is_smart

if TYPE_CHECKING:
    from nanobot.store.records import SessionInfo
    from nanobot.store.store import Store


DEFAULT_SESSION = "cli:direct"


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The options of `nanobot agent`. `message` None: ask on the terminal, or read standard input.

    `latest` goes on with the latest conversation, `resume` lets the owner choose one.
    """

    message: str | None = None
    session: str = ""
    latest: bool = False
    resume: bool = False
    model: str = ""
    json_events: bool = False
    markdown: bool = True
    logs: bool = False


def load_and_warn() -> LoadedConfig:
    """The configuration; what is odd about it goes to stderr."""
    loaded = load_config()
    for warning in loaded.warnings:
        complain(f"Warning: {warning}")
    return loaded


def session_key(name: str) -> str:
    """`name` as a session key: one without a colon belongs to the terminal. Raises UsageError."""
    cleaned = name.strip()
    if not cleaned.strip(":") or not cleaned.isprintable():
        raise UsageError(f"{name!r} cannot be the name of a session. Use letters, digits and dashes.")
    return cleaned if ":" in cleaned else f"cli:{cleaned}"


async def conversation_named(store: Store, name: str) -> SessionInfo | None:
    """The conversation `@ID`, or the one that goes on in the session of that key. Raises UsageError."""
    if name[:1] == "@" and name[1:].isdecimal():
        if found := await store.conversations.get(int(name[1:])):
            return found
        raise UsageError(f"There is no conversation {name}. `nanobot session list` shows them.")
    for key in (session_key(name), name.strip()):  # `heartbeat` has no colon
        if found := await store.sessions.get(key):
            return found
    return None


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
