"""What a program writes for a screen becomes what a screen shows; pyte is the judge."""

from __future__ import annotations

from itertools import pairwise

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.security.screen import HEIGHT, TextScreen, rendered


def bar(name: str) -> str:
    return "".join(f"\r{name} {step / 5:5.1f}% |{'#' * (step // 20):25}|" for step in range(501)) + "\n"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain\n\ttext  \n", "plain\n\ttext  \n"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        (bar("a") + "WARNING\n" + bar("b"), f"a 100.0% |{'#' * 25}|\nWARNING\nb 100.0% |{'#' * 25}|\n"),
        ("\x1b[1;31mred\x1b[0m \x1b[38;5;4mblue\x1b[K", "red blue"),
        ("\x1b]0;title\x07x\x1b]8;;https://a\x1b\\link\x1b]8;;\x1b\\\x1bPq#0\x1b\\.", "xlink."),
        ("\x1b]never ended\nbut the line is", "\nbut the line is"),
        ("pass\b\b\b\bword   \b\b\b", "word   "),
        ("longer text\rshort\x1b[K", "short"),
        ("working…\r        \rdone", "done"),
        ("one\ntwo\nthree\n\x1b[2A\x1b[2KTWO\x1b[2B\rend", "one\nTWO\nthree\nend"),
        ("before\n\x1b[?1049h~\n~\nan editor\x1b[?1049lafter", "before\nafter"),
        ("old\n\x1b[H\x1b[2J\x1b[3Jnew", "new"),
        ("下载 100%\r下载 99%\x1b[K", "下载 99%"),
        ("a\x00b\x07c\x9d", "a\x00bc"),
        ("\x1b(B\x1b[mtext\x1b[?25h\x1b=", "text"),
        ("\x9b1;31mred\x9b0m", "red"),
        ("\x1b", ""),
    ],
)
def test_the_last_state_is_shown(written: str, shown: str) -> None:
    assert rendered(written) == shown


STEPS = st.one_of(
    st.text("ab -", min_size=1, max_size=8),
    st.sampled_from(["\r", "\n", "\r\n", "\b", "\x1b7", "\x1b8", "\x1b[31m", "\x1b[?25l"]),
    st.builds("\x1b[{}{}".format, st.sampled_from(["", 0, 1, 2, 3, 7]), st.sampled_from("ABCDEFGd")),
    st.builds("\x1b[{};{}H".format, st.integers(0, 9), st.integers(0, 30)),
    st.builds("\x1b[{}{}".format, st.sampled_from(["", 0, 1, 2]), st.sampled_from("JK")),
)


@given(steps=st.lists(STEPS, max_size=25), cuts=st.lists(st.integers(0, 200), max_size=5))
@settings(deadline=None, max_examples=100)
def test_a_terminal_shows_the_same_however_the_text_is_cut(steps: list[str], cuts: list[int]) -> None:
    text = "".join(steps)
    judge = pyte.Screen(250, HEIGHT)
    judge.set_mode(pyte.modes.LNM)
    pyte.Stream(judge).feed(text)
    screen = TextScreen()
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    final = "".join(screen.feed(text[a:b]) for a, b in pairwise(bounds))
    lines = (final + screen.rows()).rstrip("\n ").split("\n")
    assert [line.rstrip() for line in lines] == "\n".join(map(str.rstrip, judge.display)).rstrip().split("\n")


@pytest.mark.parametrize("width", [3, 70, 5_000])
def test_nothing_that_has_scrolled_off_is_lost(width: int) -> None:
    lines = [f"{number}".rjust(width, ".") for number in range(1000)]
    screen = TextScreen()
    text = "\n".join(lines)
    pieces = [screen.feed(text[start : start + 999]) for start in range(0, len(text), 999)]
    assert "".join(pieces) + screen.rows() == text


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "x",
            "\rx",
            "\x1b[",
            "\x1b]",
            "\x1bP\x1b",
            "\x1b[A",
            "x\b",
            "\x1b[50A\n",
            "\x1b[2J\n",
            "\x1b[9Cx\r",
        ),
        *(
            "\n",
            "\t",
            "\x1b",
            "\x1b[H\x1b[99Cx",
            "\x1b[?1049h\n",
            "\x1b[Ax" + "y" * 90,
            "\x1b[1" + "0" * 70,
            "日",
        ),
    ],
)
def test_any_text_costs_what_it_is_long(piece: str) -> None:
    """Of each a lot; with a careless loop one of them takes minutes, and the test timeout is the judge."""
    screen = TextScreen()
    text = piece * (400_000 // len(piece))
    for start in range(0, len(text), 4096):
        screen.feed(text[start : start + 4096])
    assert len(screen.rows()) < 200_000
