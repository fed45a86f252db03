"""Markdown to Telegram HTML: what people see, never refused, nothing lost, no time bombs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanobot.channels.dialects import TELEGRAM_HTML, utf16_len
from nanobot.channels.splitting import render_pieces
from tests.channels.rendering import whole
from tests.peers.telegram_html import parse_html

TEXT_LIMIT = TELEGRAM_HTML.limit


def to_telegram_html(markdown: str) -> str:
    return whole(markdown, TELEGRAM_HTML).text


def plain_text(markdown: str) -> str:
    return whole(markdown, TELEGRAM_HTML).plain


def split_for_telegram(markdown: str, limit: int = TEXT_LIMIT) -> list[str]:
    return [piece.text for piece in render_pieces(markdown, replace(TELEGRAM_HTML, limit=limit))]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("plain & <simple>", "plain &amp; &lt;simple&gt;"),
        ("**bold** __too__ *it* _al_ ~~gone~~", "<b>bold</b> <b>too</b> <i>it</i> <i>al</i> <s>gone</s>"),
        ("***both* bold**", "<b><i>both</i> bold</b>"),
        ("**a `x<y` b**", "<b>a </b><code>x&lt;y</code><b> b</b>"),
        ("snake_case_name 2*3*4", "snake_case_name 2<i>3</i>4"),
        ("[text](https://a.b/?x=1&y=2)", '<a href="https://a.b/?x=1&amp;y=2">text</a>'),
        ("[`code`](tg://user?id=1)", '<a href="tg://user?id=1">code</a>'),
        ("<a@b.c>", '<a href="mailto:a@b.c">a@b.c</a>'),
        ("[file](notes/a.md) [x](javascript:a)", "file (notes/a.md) [x](javascript:a)"),
        ("[](https://a.b)", '<a href="https://a.b">https://a.b</a>'),
        ("![cat](https://a.b/c.png)", '<a href="https://a.b/c.png">cat</a>'),
        ("[ä](https://de.org/wiki/Füße)", '<a href="https://de.org/wiki/Füße">ä</a>'),
        ("# Title with `code`", "<b>Title with </b><code>code</code>"),
        ("one\ntwo\n\nthree", "one\ntwo\n\nthree"),
        ("- a\n- b\n  - c", "• a\n• b\n   • c"),
        ("1. a\n1. b", "1. a\n2. b"),
        ("3. a\n4. b", "3. a\n4. b"),
        ("> said\n> > deeper", "<blockquote>said\n\n&gt; deeper</blockquote>"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        ("```py\na < b\n  c\n```", '<pre><code class="language-py">a &lt; b\n  c</code></pre>'),
        ("```\nx\n```", "<pre>x</pre>"),
        ('```js title="a"\nx\n```', 'js title="a"\n<pre>x</pre>'),
        ("```\nnever closed", "<pre>never closed</pre>"),
        ("a <script>b</script>", "a &lt;script&gt;b&lt;/script&gt;"),
        ("[x]: http://q", "[x]: http://q"),
        ("#", "#"),
        (" \n ", ""),
        ("lone \ud83d surrogate \0.", "lone \ufffd surrogate ."),
    ],
)  # fmt: skip
def test_markdown_becomes_html(markdown: str, expected: str) -> None:
    assert to_telegram_html(markdown) == expected
    parse_html(expected)


def test_a_table_is_aligned() -> None:
    table = "| name | n |\n|:--|--:|\n| **first** | 1 |\n| 日本 | 22 |"
    assert to_telegram_html(table) == "<pre>name  |   n\n------+----\nfirst |   1\n日本  |  22</pre>"


def test_a_wide_table_is_not_padded() -> None:
    table = f"| a | b |\n|--|--|\n| {'x' * 120} | 1 |"
    assert to_telegram_html(table).split("\n")[0] == "<pre>a | b"


def test_cells_beyond_the_heading_are_not_lost() -> None:
    assert "extra" in to_telegram_html("| a |\n|--|\n| b | extra |")


def test_what_the_parser_drops_is_shown_as_written() -> None:
    assert to_telegram_html(">" * 50 + " deep") == "&gt;" * 50 + " deep"


def test_plain_text_writes_links_out() -> None:
    markdown = "**See** [docs](https://a.b) and <https://c.d> `x < y`\n\n- one"
    assert plain_text(markdown) == "See docs (https://a.b) and https://c.d x < y\n\n• one"


MARKS = [
    *("*", "**", "_", "__", "~~", "`", "``", "```", "\n```py\n", "\n```\n", "~~~", "[", "](", ")", "!["),
    *("<", ">", "&", "&amp;", "&#0;", "&lt", "\\", "|", "\n|--|--|\n", "\n", "\n\n", " ", "    ", "\t"),
    *("\n# ", "\n- ", "\n1. ", "\n> ", "\n---\n", "\n===\n", "https://a.b/", "javascript:", "<b>", "</b>"),
    *(
        "<https://x.y>",
        "mailto:",
        '"',
        "'",
        "\r\n",
        "\u2028",
        "\u00a0",
        "👩‍👩‍👧",
        "é",
        "日本",
        "\ud83d",
        "- [x] ",
    ),
]
WORDS = st.integers(0, 999).map("word{}".format)
markdown_like = st.lists(WORDS | st.sampled_from(MARKS) | st.text(max_size=4), max_size=50).map("".join)


@settings(deadline=None, max_examples=300)
@given(markdown_like)
@example("\n- ```word0")
def test_never_refused_and_no_word_lost(markdown: str) -> None:
    text, entities = parse_html(to_telegram_html(markdown))
    shown = text + "".join(f" {entity.url} {entity.language}" for entity in entities)
    assert [word for word in re.findall(r"word\d+", markdown) if word not in shown] == []


@settings(deadline=None, max_examples=60)
@example("\n```py\nword0word0word0word0word0word0word0word00", 40)  # a word is cut between two blocks
@given(st.lists(markdown_like, max_size=6).map("\n\n".join), st.sampled_from([40, 200, TEXT_LIMIT]))
def test_every_piece_fits_and_no_word_is_lost(markdown: str, limit: int) -> None:
    pieces = list(render_pieces(markdown, replace(TELEGRAM_HTML, limit=limit)))
    seen = kept = ""
    for piece in pieces:
        text, entities = parse_html(piece.text)
        assert text.strip()
        assert utf16_len(text) <= limit
        assert utf16_len(piece.plain) <= limit
        assert not letters(text) - letters(piece.plain)
        seen += text
        kept += "".join(f" {entity.url} {entity.language}" for entity in entities)
    whole, _ = parse_html(to_telegram_html(markdown))
    seen = "".join(seen.split())
    assert "".join(whole.split()) == seen
    assert [word for word in re.findall(r"word\d+", markdown) if word not in seen and word not in kept] == []


def letters(text: str) -> Counter[str]:
    return Counter(char for char in text if char.isalnum())


def test_a_table_that_grows_when_rendered_is_split_again() -> None:
    table = "|" + "a|" * 20 + "\n|" + "-|" * 20 + "\n" + "|x\n" * 400
    pieces = split_for_telegram(table)
    assert len(pieces) > 1
    shown = [parse_html(piece) for piece in pieces]
    assert all(
        utf16_len(text) <= TEXT_LIMIT and [e.type for e in entities] == ["pre"] for text, entities in shown
    )
    assert "".join(pieces).count("x") == 400


@pytest.mark.parametrize(
    "unit",
    ["*", "a*", "**a *", "[", "![", "[a](", "](", "`", "`a", "_a", "~~a", ">", "- ", "> - ", "<", "<http:",
     "&", "\\", "|", "1. a\n", "*_[`", "![[]()", "\n", "[a](http://b)", "**`a`"],
)  # fmt: skip
def test_hostile_repetition_is_rendered(unit: str) -> None:
    # A quadratic parser would run into the suite's timeout here.
    parse_html(to_telegram_html(unit * 8_000))
    for piece in split_for_telegram(unit * 8_000):
        parse_html(piece)
