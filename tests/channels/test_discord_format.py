"""Markdown in Discord's own: what is written is what is meant, and no text is lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.channels.dialects import DISCORD_MARKDOWN
from nanobot.channels.splitting import render_pieces
from tests.channels.conformance.discord import seen
from tests.channels.rendering import whole


@pytest.mark.parametrize(
    ("markdown", "discord"),
    [
        ("**bold** *it* ~~gone~~", "**bold** *it* ~~gone~~"),
        ("# One\n\n## Two\n\n#### Four", "# One\n\n## Two\n\n**Four**"),
        ("snake_case 2 * 3 | x", r"snake\_case 2 \* 3 \| x"),
        (r"\# no heading", r"\# no heading"),
        ("use `a_b` and ``a`b``", "use ``a_b`` and ``a`b``"),
        ("```py\nx = '`'\n```", "```py\nx = '`'\n```"),
        ("~~~\nan ``` inside\n~~~", "```\nan `\u200b`` inside\n```"),
        ("[a_b](https://e.org/x_y)", r"[a\_b](https://e.org/x_y)"),
        ("see https://e.org/a_b_c", "see https://e.org/a_b_c"),
        ("- one\n  - two\n\n1. three\n2. four", "- one\n  - two\n\n1. three\n2. four"),
        ("> quoted\n> twice", "> quoted\n> twice"),
        ("| a | b |\n|---|---|\n| 1 | 22 |", "```\na   | b\n----+----\n1   | 22\n```"),
        ("@everyone <@123> <#4>", r"\@everyone \<\@123\> \<#4\>"),
    ],
)
def test_how_things_are_written(markdown: str, discord: str) -> None:
    assert whole(markdown, DISCORD_MARKDOWN).text == discord


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab *_~`#>-|\\[]()@<1.\n🐈", max_size=400))
def test_no_letter_is_lost_and_no_limit_broken(markdown: str) -> None:
    pieces = list(render_pieces(markdown, replace(DISCORD_MARKDOWN, limit=60)))
    assert all(len(piece.text) <= 60 for piece in pieces)
    written = "".join(seen(piece.text) for piece in pieces)
    for letter in "ab🐈":
        assert written.count(letter) >= markdown.count(letter) - markdown.count("](")
