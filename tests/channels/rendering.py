"""A document as a single message, however long it is."""

from __future__ import annotations

from dataclasses import replace

from nanobot.channels.dialects import Dialect
from nanobot.channels.splitting import Rendered, render_pieces


def whole(markdown: str, dialect: Dialect) -> Rendered:
    pieces = list(render_pieces(markdown, replace(dialect, limit=10_000_000, byte_limit=0)))
    assert len(pieces) <= 1
    return pieces[0] if pieces else Rendered("", "", 0.0)
