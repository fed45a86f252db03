"""What a command that somebody watches is given: its configuration, and the options of `nanobot agent`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanobot.config.loader import LoadedConfig, load_config
from nanobot.errors import UsageError
from nanobot.terminal.screen import complain

if TYPE_CHECKING:
    from nanobot.store.records import SessionInfo
    from nanobot.store.store import Store


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
