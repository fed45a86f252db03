"""Recognising a slash command; what each one does is in `nanobot/commands/`."""

from __future__ import annotations

import re

# A path such as /etc/hosts is no command.
_COMMAND = re.compile(r"/([A-Za-z][\w-]*)(?:@\w+)?(?:\s+(.*))?", re.DOTALL)


def parse_command(text: str) -> tuple[str, str] | None:
    """Name and arguments when `text` is written like a command, known or not."""
    match = _COMMAND.fullmatch(text.strip())
    return (match[1].lower(), (match[2] or "").strip()) if match else None
