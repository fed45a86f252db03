"""What a platform is given to send: the parts of an outgoing message, rendered, and its files, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nanobot.channels.dialects import Dialect
from nanobot.channels.splitting import render_pieces
from nanobot.errors import ChannelError
from nanobot.messages import Attachment, OutboundMessage


@dataclass(frozen=True, slots=True)
class OutgoingPart:
    """One message of the platform: a text, or a file with `text` as its caption.

    `key` is the same whenever this part is tried again. `text` is in the channel's dialect if it is
    `formatted`, `plain` says the same without markup. `quotes`: it may show which message it answers.
    `metadata` is that of the incoming message. `data` is what the file holds, read when it is sent.
    """

    key: str
    chat_id: str
    text: str
    plain: str = ""
    formatted: bool = True
    quotes: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    file: Attachment | None = None
    data: bytes = b""


def parts_of(message: OutboundMessage, dialect: Dialect, *, caption_limit: int = 0) -> list[OutgoingPart]:
    """The texts of a message, then its files; a short text becomes the caption of a single file."""
    about: dict[str, Any] = {"chat_id": message.chat_id, "metadata": message.metadata}
    pieces = render_pieces(message.text, dialect)
    parts = [OutgoingPart("", text=piece.text, plain=piece.plain, **about) for piece in pieces]
    files = message.attachments
    if len(parts) == len(files) == 1 and dialect.length(parts[0].text) <= caption_limit:
        parts, files = [replace(parts[0], file=files[0])], ()
    parts += [OutgoingPart("", text="", file=file, **about) for file in files]
    return [
        replace(part, key=f"{message.id}:{number}", quotes=message.kind == "reply" and number == 0)
        for number, part in enumerate(parts)
    ]


def check_files(files: tuple[Attachment, ...], limit: int, platform: str) -> None:
    """Raises ChannelError for a file that cannot go out, before anything of its message does."""
    for file in files:
        try:
            size = Path(file.path).stat().st_size
        except OSError as error:
            raise ChannelError(f"{file.name} cannot be sent: {error.strerror}.", permanent=True) from error
        if not 0 < size <= limit:
            problem = f"it is larger than {limit >> 20} MB" if size else "it is empty"
            raise ChannelError(f"{file.name} cannot be sent to {platform}: {problem}.", permanent=True)
