"""Streaming Markdown: whatever the pieces, the same lines become final, and the screen shows them."""

from __future__ import annotations

import io
import itertools
from collections import Counter

import pyte
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from nanobot.bus.events import (
    Notice,
    TextDelta,
    TextDiscarded,
    ToolFinished,
    ToolOutputDelta,
    ToolStarted,
    TurnFinished,
    UsageReported,
)
from nanobot.columns import cells
from nanobot.messages import ContextUse, Usage
from nanobot.terminal.live import LiveRenderer
from nanobot.terminal.markdown import AnswerText
from nanobot.terminal.render import footer
from nanobot.terminal.screen import Screen, clean, without_styles

BLOCKS = [
    "# Title",
    "Some **bold** words that are long enough to be wrapped more than once on a narrow terminal.",
    "中文字符混排測試，這是一個很長的句子，用來測試換行。",
    "- one\n- two\n  - nested\n\n- loose",
    "1. first\n2. second",
    "```python\n" + "\n".join(f"value_{n} = {n}" for n in range(30)) + "\n```",
    "    indented code",
    "> quoted\n> text",
    "Setext\n======",
    "---",
    "<b>html</b>",
    "a \x1b[31mred\x1b[0m \x1b]0;title\x07 line\r\nnext",
]


def stream(pieces: list[str], width: int, *, markdown: bool = True) -> list[str]:
    answer = AnswerText(Console(file=io.StringIO(), width=width), markdown=markdown)
    lines: list[str] = []
    for piece in pieces:
        answer.add(piece)
        final, _ = answer.advance(width)
        lines += final
    return [without_styles(line) for line in lines + answer.finish(width)]


def cut(text: str, places: list[int]) -> list[str]:
    cuts = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(cuts)]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5),
    st.lists(st.integers(0, 5000), max_size=12),
    st.sampled_from([20, 80]),
)
@example(["1. first\n2. second", "1. first\n2. second", "# Title"], [309], 20)
def test_pieces_do_not_matter(blocks: list[str], places: list[int], width: int) -> None:
    text = "\n\n".join(blocks)
    assert stream(cut(text, places), width) == stream([text], width)


@given(st.lists(st.text(st.sampled_from("ab \n*#"), max_size=15), max_size=5))  # less than a line
def test_plain_text_stays_as_it_is(pieces: list[str]) -> None:
    lines = stream(pieces, 80, markdown=False)
    assert lines == [
        line.rstrip(" ") for line in "".join(pieces).removesuffix("\n").split("\n")
    ] or not "".join(pieces)


@given(st.text(st.sampled_from("ab\x1b[]0;1mJ\x07\\\r\n\x9b\x00\t\u202e")))
def test_cleaned_text_cannot_steer_a_terminal(text: str) -> None:
    assert not set(clean(text)) & set("\x1b\x07\x9b\x00\r\u202e")


ROWS = [["Wednesday", "https://example.org/" + "x" * 50], ["中文字符混排測試" * 4, "two words"]]


@pytest.mark.parametrize(("columns", "width"), [(2, 40), (2, 20), (6, 40), (12, 40), (3, 140)])
def test_a_table_loses_nothing_on_a_narrow_terminal(columns: int, width: int) -> None:
    rows = [[cell for _ in range(columns) for cell in row][:columns] for row in ROWS]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [["Day"] * columns, ["---"] * columns, *rows])
    lines = stream([f"Before.\n\n{table}\n\nAfter."], width)
    assert all(cells(line) <= width for line in lines)
    shown = Counter("".join(lines).replace(" ", ""))
    assert "…" not in shown
    assert Counter("".join(itertools.chain(*rows)).replace(" ", "")) - shown == Counter()


class Paper(io.StringIO):
    """A terminal as a file."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(paper: Paper, columns: int = 80, rows: int = 24) -> list[str]:
    screen = pyte.HistoryScreen(columns, rows, history=1000)
    pyte.Stream(screen).feed(paper.getvalue().replace("\n", "\r\n"))
    past = ["".join(line[x].data for x in range(columns)).rstrip() for line in screen.history.top]
    return [*past, *(line.rstrip() for line in screen.display)]


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Paper:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm-256color")
    return Paper()


async def test_block_taller_than_the_screen_is_printed_once(paper: Paper) -> None:
    code = [f"value_{number} = {number}" for number in range(100)]
    renderer = LiveRenderer(Screen(paper), paper, markdown=True)
    with renderer.shown():
        for piece in cut("```python\n" + "\n".join(code) + "\n```\n\nDone.", list(range(0, 3000, 97))):
            renderer.show(TextDelta(piece))
            renderer.repaint()
    assert [line for line in shown(paper) if line] == [*code, "Done."]


async def test_tools_notices_and_broken_attempts(paper: Paper) -> None:
    renderer = LiveRenderer(Screen(paper), paper, markdown=True)
    with renderer.shown():
        renderer.show(TextDelta("Half a th"))
        renderer.repaint()
        renderer.show(TextDiscarded("The stream broke."))
        renderer.show(Notice("The stream broke. Trying again in 1 s (attempt 2).", 2))
        renderer.show(TextDelta("Half a third\n\nand\n\nso"))
        renderer.repaint()
        renderer.show(TextDiscarded("The stream broke."))
        renderer.show(Notice("The stream broke. Trying again in 2 s (attempt 3).", 3))
        renderer.repaint()
        assert [line for line in shown(paper) if line] == [
            "Half a third",
            "The answer starts again.",
            "The stream broke. Trying again in 2 s (attempt 3).",
        ]
        renderer.show(TextDelta("Let me look."))
        renderer.show(UsageReported(Usage()))
        renderer.show(ToolStarted("1", "exec", 'exec("make")'))
        renderer.show(ToolOutputDelta("1", "compiling\x1b[2J\n"))
        renderer.repaint()
        assert "  compiling" in shown(paper)
        renderer.show(ToolFinished("1", "exec", "error", 1.25, "Error: exit code 2"))
        renderer.show(Notice("Take care."))
        renderer.show(TextDelta("It failed."))
    lines = shown(paper)
    assert lines[: lines.index("It failed.") + 1] == [
        "Half a third",
        "",
        "The answer starts again.",
        "",
        "Let me look.",
        "",
        '✗ exec("make") 1.2s  Error: exit code 2',
        "  compiling",
        "Take care.",
        "",
        "It failed.",
    ]
    assert not any(lines[lines.index("It failed.") + 1 :])


@given(
    st.text("abc/中-", max_size=60),
    st.integers(0, 9_999_999),
    st.floats(0, 900),
    st.floats(0, 99_999),
    st.integers(40, 140),
)
def test_the_line_after_an_answer_fits(
    model: str, tokens: int, cost: float, spent: float, width: int
) -> None:
    usage, context = Usage(tokens, tokens, cost=cost), ContextUse(tokens, 0, 10_000_000)
    line = footer(model, TurnFinished("done", "", usage, context=context), spent, width)
    assert cells(line) <= width
    assert "context " in line
    assert " out" in line
    assert ("$" in line) <= (cost > 0)
