"""The event stream parser, against the rules of WHATWG HTML section 9.2."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.providers.transport import MAX_EVENT_CHARS, EventParser


def parse(*chunks: bytes) -> list[str]:
    parser = EventParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return [*events, *parser.close()]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b": comment\n\ndata: a\n: more\n\n", ["a"]),
        (b"event: ping\nid: 1\nretry: 5\n\n", []),
        (b"event: x\ndata: a\nunknown\n\n", ["a"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (
            "data: line\u2028separator\x0bis no line end\n\n".encode(),
            ["line\u2028separator\x0bis no line end"],
        ),
        (b"data: a\n", ["a"]),
        (b"data: a\n\ndata: cut off", ["a"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"", []),
    ],
)
def test_events(stream: bytes, events: list[str]) -> None:
    assert parse(stream) == events
    assert parse(*(bytes([byte]) for byte in stream)) == events, "the same one byte at a time"


LINE = st.text(
    st.characters(exclude_characters="\r\n\ufeff", exclude_categories=["Cs"]), min_size=1, max_size=12
)


@given(
    st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_any_cut_gives_the_same_events(events: list[list[str]], end: str, data: st.DataObject) -> None:
    stream = "".join("".join(f"data: {line}{end}" for line in event) + end for event in events).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    chunks = [stream[start:stop] for start, stop in itertools.pairwise(edges)]
    assert parse(*chunks) == ["\n".join(event) for event in events]


def test_an_endless_event_is_refused() -> None:
    parser = EventParser()
    piece = b"x" * (MAX_EVENT_CHARS // 4)
    endless = (event for _ in range(5) for event in parser.feed(b"data: " + piece + b"\n"))
    with pytest.raises(OverflowError):
        list(endless)


def test_a_body_of_many_lines_and_a_stream_behind_many_comments() -> None:
    page = b"<html>\n" + b"<p>a</p>\n\n" * 200_000
    assert parse(*(page[start : start + 1_000] for start in range(0, len(page), 1_000))) == [
        page.decode().strip()
    ]
    comments = b": PROCESSING\n\n" * 100_000
    assert parse(comments, b"data: a\n\n", comments, b"data: b\n\n") == ["a", "b"]
    line = b"data: " + b"x" * 4_000_000 + b"\n\n"
    assert parse(*(line[start : start + 100] for start in range(0, len(line), 100))) == ["x" * 4_000_000]
