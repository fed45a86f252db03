"""Text in columns, by the cells that it takes on a screen: wide characters take two."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence


def cells(text: str) -> int:
    """How many cells of a screen, or of a fixed-width font, a line takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, width: int) -> str:
    """`text` if it takes at most `width` cells, else as much as fits, with an ellipsis."""
    if cells(text) <= width:
        return text
    kept = text[: width - 1]
    while cells(kept) >= width:
        kept = kept[:-1]
    return f"{kept}…"


def table(rows: Iterable[Sequence[str]], *, right: Collection[int] = (), widest: int = 60) -> list[str]:
    """A line for each row, each column as wide as its longest text, the last one as it is.

    `right` are the columns whose texts stand at the right. A text wider than `widest` moves the rest.
    """
    rows = list(rows)
    widths = [min(widest, max(map(cells, column))) for column in zip(*rows, strict=True)]

    def padded(place: int, text: str) -> str:
        space = " " * (widths[place] - cells(text))
        return space + text if place in right else text + space

    return ["  ".join(padded(*field) for field in enumerate(row)).rstrip() for row in rows]


def minute(timestamp: float) -> str:
    """A moment in local time to the minute, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(timestamp))
