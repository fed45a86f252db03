"""Splitting: within the limit, nothing lost, styles and blocks of code whole in every piece."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.channels.dialects import Dialect, utf16_len
from nanobot.channels.splitting import render_pieces
from tests.channels.rendering import whole

FENCED = Dialect(
    limit=1000,
    bold="**{text}**",
    link="[{text}]({href})",
    fence="```\n{text}\n```",
    language_fence="```{language}\n{text}\n```",
    quote_line="> ",
    bullet="-",
    indent="  ",
)
SHOWN = Dialect(limit=1000, counts_markup=False)  # nothing but what is shown


def split(markdown: str, limit: int, dialect: Dialect = FENCED) -> list[str]:
    return [piece.text for piece in render_pieces(markdown, replace(dialect, limit=limit))]


def written(markdown: str, dialect: Dialect = FENCED) -> str:
    return whole(markdown, dialect).text


def without_space(text: str) -> str:
    return "".join(text.split())


def test_short_and_empty_texts() -> None:
    assert split("hello", 5) == ["hello"]
    assert split("", 5) == []
    assert split(" \n\n ", 5) == []


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("one two.\n\nthree four.\nfive", 20, ["one two.", "three four.\nfive"]),
        ("one two.\n\nthree four.\n\nfive", 24, ["one two.\n\nthree four.", "five"]),
        ("one two three\nfour five six", 18, ["one two three", "four five six"]),
        ("A first one. A second one. Third", 30, ["A first one. A second one.", "Third"]),
        ("これは文です。これも文です。おわり", 15, ["これは文です。これも文です。", "おわり"]),
        ("alpha beta gamma", 12, ["alpha beta", "gamma"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("hi abcdefghij", 10, ["hi", "abcdefghij"]),
        ("exactly ten fits", 11, ["exactly ten", "fits"]),
        ("- one\n    - deep one", 10, ["- one", "  - deep", "one"]),
        ("12345678\n\nx", 8, ["12345678", "x"]),
    ],
)
def test_borders(text: str, limit: int, pieces: list[str]) -> None:
    assert split(text, limit) == pieces


def test_styles_are_closed_at_a_cut_and_opened_again() -> None:
    assert split("**one two three four**", 14) == ["**one two**", "**three four**"]
    assert split("[one two three](http://a.b)", 25) == ["[one two](http://a.b)", "[three](http://a.b)"]
    assert split("> one two\n> three **four five**", 18) == ["> one two", "> three **four**", "> **five**"]
    assert split("> **one two three four**", 16) == ["> **one two**", "> **three four**"]


def test_a_cut_fence_is_closed_and_reopened_with_its_language() -> None:
    code = "\n".join(f"line {n}" for n in range(12))
    pieces = split(f"Look:\n\n```python\n{code}\n```\nDone.", 60)
    assert pieces[0].startswith("Look:\n\n```python\nline 0\n")
    assert all(piece.startswith("```python\nline ") for piece in pieces[1:])
    assert all(piece.count("```") == 2 for piece in pieces)
    assert pieces[-1].endswith("```\n\nDone.")


def test_a_fence_that_fits_is_moved_whole() -> None:
    fence = "```\n" + "x\n" * 20 + "```"
    assert split(f"some words\n\n{fence}", 50) == ["some words", fence]


def test_what_is_no_language_is_shown_once_and_inline_code_is_no_fence() -> None:
    tildes = split("~~~ a`b\n" + "x y z\n" * 8 + "~~~", 40)
    assert tildes[0].startswith("a`b\n```\nx y z\n")
    assert all(piece.startswith("```\nx y z") for piece in tildes[1:])
    assert split("```one``` two three four five", 20) == ["one two three four", "five"]


def test_no_empty_code_block_when_only_the_closing_line_is_left() -> None:
    text = "```\n" + "a" * 10 + "\n" + "b" * 10 + "\n```"
    assert split(text + "\nafter", 29) == [text, "after"]


def test_indentation_inside_a_fence_is_kept() -> None:
    pieces = split("```\nif a:\n        deep = 1\n        more = 2\n```", 32)
    assert pieces == ["```\nif a:\n        deep = 1\n```", "```\n        more = 2\n```"]


def test_a_fence_in_a_list_and_in_a_quotation() -> None:
    listed = split("1. ```sh\n   " + "\n   ".join(["make it"] * 6) + "\n   ```\n2. end", 50)
    assert listed[0].endswith("\n```")
    assert listed[1].startswith("```sh\nmake it")
    quoted = split("> ```sh\n> " + "\n> ".join(["make it"] * 6) + "\n> ```", 50)
    assert quoted[0].endswith("\n> ```")
    assert quoted[1].startswith("> ```sh\n> make it")


@pytest.mark.parametrize("cluster", ["👩‍👩‍👧", "é" + "\u0301", "👍🏽", "🇩🇪", "❤️"])
def test_characters_people_see_as_one_stay_whole(cluster: str) -> None:
    for size in range(1, 4):
        pieces = split("x" * size + cluster * 4, 12, replace(SHOWN, utf16=True))
        assert all(piece.replace("x", "").replace(cluster, "") == "" for piece in pieces)


def test_a_cluster_longer_than_the_limit_is_cut_rather_than_refused() -> None:
    assert "".join(split("e" + "\u0301" * 100, 10)) == "e" + "\u0301" * 100


fragments = st.sampled_from(
    [
        *(
            "word",
            "a sentence. ",
            "Ende!",
            " ",
            "  ",
            "\n",
            "\n\n",
            "\n \n",
            "x" * 17,
            "。",
            "é",
            "👩‍👩‍👧",
            "🇩🇪",
        ),
        *(
            "\n```\n",
            "\n```python\n",
            "\n~~~~\n",
            "\n  ```\n",
            "\n- ```js\n",
            "```",
            "`",
            "> ```\n",
            "\n````\n",
        ),
        *("**", "\n- ", "[a](http://b)", "\n> ", "\n# ", "|", "\n|-|-|\n"),
    ]
)
texts = st.lists(fragments | st.text(max_size=8), max_size=40).map("".join)


@settings(deadline=None, max_examples=300)
@given(texts, st.integers(2, 80), st.booleans())
def test_any_text_any_limit(text: str, limit: int, utf16: bool) -> None:
    dialect = replace(SHOWN, utf16=utf16)
    pieces = split(text, limit, dialect)
    assert all(dialect.length(piece) <= limit for piece in pieces)
    assert all(piece.strip() for piece in pieces)
    assert without_space("".join(pieces)) == without_space(written(text, dialect))


prose = st.text(alphabet="abc .!?。👍\u0301\n", max_size=60)
code = st.tuples(
    st.sampled_from(["", "  ", "> ", "- ", "12. "]),
    st.sampled_from(["```", "````", "~~~"]),
    st.sampled_from(["", "python", "c++ x=1", "a~b"]),
    st.lists(st.text(alphabet="xyz (){}=\t", max_size=40), max_size=8).map(lambda lines: [*lines, "end"]),
).map(lambda parts: fenced(*parts))


def fenced(prefix: str, mark: str, info: str, lines: list[str]) -> str:
    quote = prefix if prefix == "> " else ""
    inner = prefix if prefix.isspace() else quote
    return "\n".join([prefix + mark + info, *(inner + line for line in lines), inner + mark])


def without_marks(text: str) -> str:
    # The space of a mark may be lost at a cut, like any other.
    return without_space(re.sub(r"```\w*$|^(?:> )*(?:>$)?", "", text, flags=re.MULTILINE))


@settings(deadline=None, max_examples=200)
@given(st.lists(prose | code, max_size=8).map("\n".join), st.integers(60, 200))
def test_no_piece_leaves_a_fence_open_and_nothing_else_is_added(text: str, limit: int) -> None:
    dialect = replace(FENCED, utf16=True, escape=(("`", "'"),), escape_code=(("`", "'"),))
    pieces = split(text, limit, dialect)
    assert all(utf16_len(piece) <= limit for piece in pieces)
    assert all(len(re.findall(r"^(?:> |- |\d+\. )*```", piece, re.MULTILINE)) % 2 == 0 for piece in pieces)
    assert without_marks("\n".join(pieces)) == without_marks(written(text, replace(dialect, limit=limit)))


@settings(deadline=None)
@given(st.text(alphabet="ab👍\ud83d\udc4d"), st.integers(2, 9))
def test_surrogate_pairs_stay_whole(text: str, limit: int) -> None:
    pieces = split(text, limit, replace(SHOWN, utf16=True))
    assert "".join(pieces) == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def test_a_million_characters_without_a_border_stay_cheap() -> None:
    pieces = split("```\n" + "x" * 1_000_000, 4096, replace(FENCED, utf16=True))
    assert sum(piece.count("x") for piece in pieces) == 1_000_000
