"""The strict reader of Telegram's HTML style."""

from __future__ import annotations

import pytest

from tests.peers.telegram_html import MarkupError, parse_html


@pytest.mark.parametrize(
    ("source", "text", "kinds"),
    [
        ("a &lt;b&gt; &amp;&quot;&#33;&#x21; &nbsp;", 'a <b> &"!! &nbsp;', []),
        ("<b>x<i>y</i></b>", "xy", ["bold", "italic"]),
        ('  <a href="https://x.y/?a=1&amp;b=2">z</a>\n', "z", ["text_link"]),
        ('<pre><code class="language-c++">a &lt; b</code></pre>', "a < b", ["pre"]),
        ("<blockquote expandable>q <code>c</code></blockquote>", "q c", ["expandable_blockquote", "code"]),
        ('<span class="tg-spoiler">s</span><tg-spoiler>t</tg-spoiler>', "st", ["spoiler", "spoiler"]),
        ("<B>x</b >", "x", ["bold"]),
    ],
)
def test_html_is_understood(source: str, text: str, kinds: list[str]) -> None:
    shown, entities = parse_html(source)
    assert shown == text
    assert [entity.type for entity in entities] == kinds


def test_offsets_count_utf16_units_after_trimming() -> None:
    text, entities = parse_html("\n 👍<b>x </b>")
    assert text == "👍x"
    assert [(entity.offset, entity.length) for entity in entities] == [(2, 1)]
    _, entities = parse_html('<pre><code class="language-py">x</code></pre><a href="tg://user?id=1">y</a>')
    assert [(entity.language, entity.url) for entity in entities] == [("py", ""), ("", "tg://user?id=1")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("<p>x</p>", 'Unsupported start tag "p" at byte offset 0'),
        ("é<<", 'Unsupported start tag "<" at byte offset 2'),
        ("a < b", 'Unsupported start tag "" at byte offset 2'),
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("<b", "Unclosed start tag at byte offset 0"),
        ("<b><i>x</b></i>", 'expected "</i>", found "</b>"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<a>x</a>", "unusable link"),
        ('<a href="javascript:x">x</a>', "unusable link"),
        ('<b class="x">y</b>', "Unexpected attribute"),
        ("<a href>x</a>", "Expected equal sign"),
        ("<span>x</span>", "tg-spoiler"),
        ('<code class="language-py">x</code>', "directly inside"),
        ("<b><code>x</code></b>", "inside other styles"),
        ("<pre><b>x</b></pre>", "inside code"),
        ("<blockquote><blockquote>x</blockquote></blockquote>", "Blockquotes"),
    ],
)
def test_html_is_refused(source: str, message: str) -> None:
    with pytest.raises(MarkupError) as error:
        parse_html(source)
    assert message in str(error.value)
