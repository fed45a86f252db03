"""Server-sent events: bytes in, the data of each event out."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

MAX_EVENT_CHARS = 16 * 1024 * 1024


class EventTooLong(ValueError):
    """An event grew beyond MAX_EVENT_CHARS."""


class EventParser:
    """The stream format of WHATWG HTML, section 9.2, as far as model providers use it.

    Only `data` is given out: both wires name the event inside of it. Chunks may be cut anywhere.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._after_return = False
        self._line: list[str] = []
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The events that `chunk` completes. Raises EventTooLong."""
        text = self._decoder.decode(chunk)
        if not text:
            return
        if self._after_return:
            text = text.removeprefix("\n")
        # A line may end in a lone carriage return, so a trailing one ends the line at once
        # and a line feed at the start of the next chunk belongs to it.
        self._after_return = text.endswith("\r")
        first, *others = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._extend_line(first)
        for piece in others:
            line = "".join(self._line)
            self._line.clear()
            yield from self._end_line(line)
            self._extend_line(piece)

    def close(self) -> Iterator[str]:
        """The last event, if the stream ended after a whole line but without the empty one."""
        yield from self._end_line("")

    def _extend_line(self, piece: str) -> None:
        self._size += len(piece)
        if self._size > MAX_EVENT_CHARS:
            raise EventTooLong
        self._line.append(piece)

    def _end_line(self, line: str) -> Iterator[str]:
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            return
        self._size = 0
        data = "\n".join(self._data)
        self._data.clear()
        if data:
            yield data
