"""The options of `nanobot agent`."""

from __future__ import annotations

from dataclasses import dataclass

from nanobot.errors import UsageError


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


def session_key(name: str) -> str:
    """`name` as a session key: one without a colon belongs to the terminal. Raises UsageError."""
    cleaned = name.strip()
    if not cleaned.strip(":") or not cleaned.isprintable():
        raise UsageError(f"{name!r} cannot be the name of a session. Use letters, digits and dashes.")
    return cleaned if ":" in cleaned else f"cli:{cleaned}"
