"""Splitting: within the limit, nothing lost, fences whole."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.channels.splitting import split_text, utf16_len

FENCE_LINE = re.compile(r"^[ \t>]*(?:[-*+] +|\d+[.)] +)*(?:`{3,}|~{3,})[^\n]*$", re.MULTILINE)


def without_fences_and_space(text: str) -> str:
    return "".join(FENCE_LINE.sub("", text).split())


def fence_is_open(piece: str) -> bool:
    mark = ""
    for line in piece.split("\n"):
        match = re.match(r"[ \t>]*(?:[-*+] +|\d+[.)] +)*(`{3,}|~{3,})(.*)$", line)
        if match is None:
            continue
        if not mark:
            mark = match[1] if match[1][0] == "~" or "`" not in match[2] else ""
        elif match[1].startswith(mark) and not match[2].strip():
            mark = ""
    return bool(mark)


def test_short_and_empty_texts() -> None:
    assert split_text("hello", 5) == ["hello"]
    assert split_text("", 5) == []
    assert split_text(" \n\n ", 5) == []
    with pytest.raises(ValueError, match="at least 2"):
        split_text("a", 1)


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
        ("- one\n    - deep one", 10, ["- one", "    - deep", "one"]),
    ],
)
def test_borders(text: str, limit: int, pieces: list[str]) -> None:
    assert split_text(text, limit) == pieces


def test_a_cut_fence_is_closed_and_reopened_with_its_language() -> None:
    code = "\n".join(f"line {n}" for n in range(12))
    pieces = split_text(f"Look:\n\n```python\n{code}\n```\nDone.", 60)
    assert pieces[0].startswith("Look:\n\n```python\nline 0\n")
    assert all(piece.startswith("```python\nline ") for piece in pieces[1:])
    assert all(piece.count("```") == 2 for piece in pieces)
    assert pieces[-1].endswith("```\nDone.")


def test_a_fence_that_fits_is_moved_whole() -> None:
    fence = "```\n" + "x\n" * 20 + "```"
    assert split_text(f"some words\n\n{fence}", 50) == ["some words", fence]


def test_a_tilde_fence_may_have_a_backtick_in_its_info_and_inline_code_is_no_fence() -> None:
    tildes = split_text("~~~ a`b\n" + "x y z\n" * 8 + "~~~", 40)
    assert all(piece.startswith("~~~a`b\n") or piece.startswith("~~~ a`b\n") for piece in tildes)
    assert split_text("```one``` two three four five", 20) == ["```one``` two three", "four five"]


def test_no_empty_code_block_when_only_the_closing_line_is_left() -> None:
    text = "```\n" + "a" * 10 + "\n" + "b" * 10 + "\n```"
    assert split_text(text + "\nafter", 29) == [text, "after"]


def test_indentation_inside_a_fence_is_kept() -> None:
    pieces = split_text("```\nif a:\n        deep = 1\n        more = 2\n```", 30)
    assert pieces == ["```\nif a:\n        deep = 1\n```", "```\n        more = 2\n```"]


def test_a_fence_in_a_list_and_in_a_quotation() -> None:
    listed = split_text("1. ```sh\n   " + "\n   ".join(["make it"] * 6) + "\n   ```\n2. end", 50)
    assert listed[0].endswith("\n```")
    assert listed[1].startswith("```sh\n   make it")
    quoted = split_text("> ```sh\n> " + "\n> ".join(["make it"] * 6) + "\n> ```", 50)
    assert quoted[0].endswith("\n> ```")
    assert quoted[1].startswith("> ```sh\n> make it")


@pytest.mark.parametrize("cluster", ["👩‍👩‍👧", "é" + "\u0301", "👍🏽", "🇩🇪", "❤️"])
def test_characters_people_see_as_one_stay_whole(cluster: str) -> None:
    for size in range(1, 4):
        pieces = split_text("x" * size + cluster * 4, 12, length=utf16_len)
        assert all(piece.replace("x", "").replace(cluster, "") == "" for piece in pieces)


def test_a_cluster_longer_than_the_limit_is_cut_rather_than_refused() -> None:
    assert "".join(split_text("e" + "\u0301" * 100, 10)) == "e" + "\u0301" * 100


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
    ]
)
texts = st.lists(fragments | st.text(max_size=8), max_size=40).map("".join)


@settings(deadline=None, max_examples=300)
@given(texts, st.integers(2, 80), st.sampled_from([len, utf16_len]))
def test_any_text_any_limit(text: str, limit: int, length: Callable[[str], int]) -> None:
    pieces = split_text(text, limit, length=length)
    assert all(length(piece) <= limit for piece in pieces)
    assert all(piece.strip() for piece in pieces)
    kept = "".join("".join(pieces).split())
    position = 0
    # Every character comes, in order. Only the marks of a closing line may be written shorter.
    for char in "".join(text.split()).replace("`", "").replace("~", ""):
        position = kept.find(char, position) + 1
        assert position > 0


prose = st.text(alphabet="abc .!?。👍\u0301\n", max_size=60)
code = st.tuples(
    st.sampled_from(["", "  ", "> ", "- ", "12. "]),
    st.sampled_from(["```", "````", "~~~"]),
    st.sampled_from(["", "python", "c++ x=1", "a~b"]),
    st.lists(st.text(alphabet="xyz (){}=\t", max_size=40), max_size=8),
).map(lambda parts: fenced(*parts))


def fenced(prefix: str, mark: str, info: str, lines: list[str]) -> str:
    quote = prefix if prefix == "> " else ""
    inner = prefix if prefix.isspace() else quote
    return "\n".join([prefix + mark + info, *(inner + line for line in lines), inner + mark])


@settings(deadline=None, max_examples=200)
@given(st.lists(prose | code, max_size=8).map("\n".join), st.integers(60, 200))
def test_no_piece_leaves_a_fence_open_and_nothing_else_is_added(text: str, limit: int) -> None:
    pieces = split_text(text, limit, length=utf16_len)
    assert all(utf16_len(piece) <= limit for piece in pieces)
    assert not any(fence_is_open(piece) for piece in pieces)
    assert without_fences_and_space("\n".join(pieces)) == without_fences_and_space(text)


@settings(deadline=None)
@given(st.text(alphabet="ab👍\ud83d\udc4d"), st.integers(2, 9))
def test_surrogate_pairs_stay_whole(text: str, limit: int) -> None:
    pieces = split_text(text, limit, length=utf16_len)
    together = "".join("".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    apart = "".join(p.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for p in pieces)
    assert together == apart


def test_a_million_characters_without_a_border_stay_cheap() -> None:
    pieces = split_text("```\n" + "x" * 1_000_000, 4096, length=utf16_len)
    assert sum(piece.count("x") for piece in pieces) == 1_000_000
