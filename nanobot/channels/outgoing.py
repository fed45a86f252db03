"""What a platform is given to send: the parts of an outgoing message, rendered, and its files, checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from nanobot.channels.dialects import Dialect
from nanobot.channels.splitting import Rendered, render_pieces
from nanobot.errors import ChannelError
from nanobot.messages import Attachment, OutboundMessage


@dataclass(frozen=True, slots=True)
class OutgoingPart:
    """One message of the platform: a text, or a file with `text` as its caption.

    `key` is the same whenever this part is tried again. `text` is in the channel's dialect, `plain` says the
    same without markup. `quotes`: it may show which message it answers. `metadata` is that of the incoming
    message. `data` is what the file holds.
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

    def unformatted(self) -> OutgoingPart:
        """The same for a platform that refuses the markup."""
        return replace(self, text=self.plain, formatted=False)

    def with_data(self) -> OutgoingPart:
        """The same with its file read. Raises ChannelError."""
        if self.file is None:
            return self
        with _file_errors(self.file):
            return replace(self, data=Path(self.file.path).read_bytes())


def parts_of(message: OutboundMessage, dialect: Dialect, *, caption_limit: int = 0) -> list[OutgoingPart]:
    """The texts of a message, then its files; a short text becomes the caption of a single file."""
    texts = [text_part(message, piece) for piece in render_pieces(message.text, dialect)]
    files = [
        OutgoingPart("", message.chat_id, "", metadata=message.metadata, file=f) for f in message.attachments
    ]
    if len(texts) == len(files) == 1 and dialect.length(texts[0].text) <= caption_limit:
        parts = [replace(texts[0], file=files[0].file)]
    else:
        parts = texts + files
    return [
        replace(part, key=f"{message.id}:{number}", quotes=message.kind == "reply" and number == 0)
        for number, part in enumerate(parts)
    ]


def text_part(message: OutboundMessage, piece: Rendered) -> OutgoingPart:
    """A piece of the text of a message."""
    return OutgoingPart(
        f"{message.id}:0", message.chat_id, piece.text, piece.plain, metadata=message.metadata
    )


def check_files(files: tuple[Attachment, ...], limit: int, platform: str) -> None:
    """Raises ChannelError for a file that cannot go out, before anything of its message does."""
    for file in files:
        with _file_errors(file):
            size = Path(file.path).stat().st_size
        if not 0 < size <= limit:
            problem = f"it is larger than {limit >> 20} MB" if size else "it is empty"
            raise ChannelError(f"{file.name} cannot be sent to {platform}: {problem}.", permanent=True)


@contextlib.contextmanager
def _file_errors(file: Attachment) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ChannelError(f"{file.name} cannot be sent: {error.strerror}.", permanent=True) from error
