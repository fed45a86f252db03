"""Markdown, as models write it, to Telegram's HTML style: https://core.telegram.org/bots/api#html-style

Nothing a model writes makes Telegram refuse the result, and no text is lost: what has no
counterpart there is shown as text, and if the Markdown parser drops anything, the source is.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

from nanobot.channels.splitting import split_text, utf16_len

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

TEXT_LIMIT = 4096
"""UTF-16 units of visible text in one message."""

_SOURCE_LIMIT = 30_000
"""Bytes of HTML in one message, safely below what the Bot API server takes."""

_WIDEST_TABLE = 100
_LINK = re.compile(r"(?:https?://|tg://|mailto:)\S+", re.IGNORECASE)
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]+")
_ANCHOR = re.compile(r'<a href="([^"]*)">(.*?)</a>', re.DOTALL)
_KEPT_ATTRIBUTE = re.compile(r'<(?:a href|code class)="([^"]*)">')
_TAG = re.compile(r"<[^>]*>")
_LIST_NUMBER = re.compile(r"^[ \t>*+-]*\d{1,9}[.)]", re.MULTILINE)
_STYLES = {"strong": "b", "em": "i", "s": "s"}


def to_telegram_html(markdown: str) -> str:
    """HTML for `parse_mode=HTML`. Empty only when `markdown` is blank."""
    source = _clean(markdown)
    rendered = _Renderer(source).document()
    if _visible(rendered).strip() and _keeps_all(source, rendered):
        return rendered
    return html.escape(source.strip(), quote=False)


def plain_text(markdown: str) -> str:
    """The same message without any markup, links written out: for when Telegram refuses the HTML."""
    return _visible(_ANCHOR.sub(_written_out, to_telegram_html(markdown))).strip()


def split_for_telegram(markdown: str, limit: int = TEXT_LIMIT) -> list[str]:
    """Markdown pieces, each of which renders to at most `limit` UTF-16 units of visible text."""
    pieces = []
    waiting = list(reversed(split_text(_clean(markdown), limit, length=utf16_len)))
    while waiting:
        piece = waiting.pop()
        size = utf16_len(piece)
        if size <= 16 or _fits(to_telegram_html(piece), limit):
            pieces.append(piece)
        else:  # rendering made it longer, as it does with aligned tables
            waiting.extend(reversed(split_text(piece, size // 2, length=utf16_len)))
    return pieces


def _fits(rendered: str, limit: int) -> bool:
    return utf16_len(_visible(rendered)) <= limit and len(rendered.encode()) <= _SOURCE_LIMIT


def _clean(text: str) -> str:
    """One kind of line end, and no lone surrogates, which no request can carry."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _visible(rendered: str) -> str:
    return html.unescape(_TAG.sub("", rendered))


def _written_out(match: re.Match[str]) -> str:
    href, text = match.groups()
    return text if _TAG.sub("", text) in (href, href.removeprefix("mailto:")) else f"{text} ({href})"


def _keeps_all(source: str, rendered: str) -> bool:
    """Whether every letter and digit of the source is shown, or is part of a link or language."""
    attributes = html.unescape("".join(_KEPT_ATTRIBUTE.findall(rendered)))
    written = html.unescape(_LIST_NUMBER.sub("", source))
    return not _characters(written) - _characters(_visible(rendered) + attributes)


def _characters(text: str) -> Counter[str]:
    return Counter(char for char in text if char.isalnum())


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    # Raw HTML is text here. Definitions would vanish from sight. Indented text from a model is a
    # deep list far more often than code.
    parser.disable(["html_block", "html_inline", "reference", "code"])
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    return parser


class _Renderer:
    def __init__(self, source: str) -> None:
        self._lines = source.split("\n")
        self._source = source

    def document(self) -> str:
        from markdown_it.tree import SyntaxTreeNode

        root = SyntaxTreeNode(_parser().parse(self._source))
        return "\n\n".join(self._blocks(root.children, quoted=False, depth=0))

    def _blocks(self, nodes: Iterable[SyntaxTreeNode], *, quoted: bool, depth: int) -> list[str]:
        blocks = [self._block(node, quoted=quoted, depth=depth) for node in nodes]
        return [block for block in blocks if block]

    def _block(self, node: SyntaxTreeNode, *, quoted: bool, depth: int) -> str:
        match node.type:
            case "heading":
                return _Inline(heading=True).render(node.children)
            case "fence":
                return _fence(node)
            case "bullet_list" | "ordered_list":
                return self._list(node, quoted=quoted, depth=depth)
            case "blockquote":
                inner = "\n\n".join(self._blocks(node.children, quoted=True, depth=depth))
                return f"&gt; {inner}" if quoted else f"<blockquote>{inner}</blockquote>"
            case "hr":
                return "———"
            case "table":
                return self._table(node)
            case _:
                return _Inline().render(node.children)

    def _list(self, node: SyntaxTreeNode, *, quoted: bool, depth: int) -> str:
        indent = "   " * depth
        lines = []
        for marker, item in zip(_markers(node), node.children, strict=True):
            body = "\n".join(self._blocks(item.children, quoted=quoted, depth=depth + 1))
            lines.append(f"{indent}{marker} {body}")
        return "\n".join(lines)

    def _table(self, node: SyntaxTreeNode) -> str:
        rows = [row.children for part in node.children for row in part.children]
        cells = [[_visible(_Inline().render(cell.children)) for cell in row] for row in rows]
        first, last = node.map or (0, 0)
        source = "\n".join(self._lines[first:last])
        table = html.escape(_aligned(cells, [_alignment(cell) for cell in rows[0]]), quote=False)
        if not _keeps_all(source, table):  # a row with more cells than the heading has
            table = html.escape(source, quote=False)
        return f"<pre>{table}</pre>"


class _Inline:
    """Renders one line of styles. Code may not stand inside other styles, so they pause around it."""

    def __init__(self, *, heading: bool = False) -> None:
        self._out: list[str] = []
        self._open: list[str] = []
        self._in_link = False
        self._heading = heading

    def render(self, nodes: Sequence[SyntaxTreeNode]) -> str:
        if self._heading:
            self._styled("b", nodes)
        else:
            self._children(nodes)
        return "".join(self._out)

    def _children(self, nodes: Iterable[SyntaxTreeNode]) -> None:
        for node in nodes:
            self._node(node)

    def _node(self, node: SyntaxTreeNode) -> None:
        match node.type:
            case "softbreak" | "hardbreak":
                self._out.append("\n")
            case "strong" | "em" | "s":
                self._styled(_STYLES[node.type], node.children)
            case "code_inline":
                self._code(node.content)
            case "link":
                self._link(node, str(node.attrs.get("href", "")))
            case "image":
                self._image(node, str(node.attrs.get("src", "")))
            case "inline":
                self._children(node.children)
            case _:
                self._text(node.content)

    def _text(self, text: str) -> None:
        self._out.append(html.escape(text, quote=False))

    def _styled(self, tag: str, nodes: Iterable[SyntaxTreeNode]) -> None:
        if tag in self._open:
            self._children(nodes)
            return
        self._open.append(tag)
        self._out.append(f"<{tag}>")
        self._children(nodes)
        self._out.append(f"</{tag}>")
        self._open.pop()

    def _code(self, text: str) -> None:
        if self._in_link:
            self._text(text)
            return
        self._out.extend(f"</{tag}>" for tag in reversed(self._open))
        self._out.append(f"<code>{html.escape(text, quote=False)}</code>")
        self._out.extend(f"<{tag}>" for tag in self._open)

    def _link(self, node: SyntaxTreeNode, href: str) -> None:
        shown = "".join(_words(node)).strip()
        if _LINK.fullmatch(href) and not self._in_link:
            self._in_link = True
            self._out.append(f'<a href="{html.escape(href)}">')
            self._children(node.children)
            self._text("" if shown else href)
            self._out.append("</a>")
            self._in_link = False
        else:
            self._children(node.children)
            self._text(f" ({href})" if href and href != shown else "")
        self._title(node)

    def _image(self, node: SyntaxTreeNode, source: str) -> None:
        alt = node.content or source
        if _LINK.fullmatch(source) and not self._in_link:
            self._out.append(f'<a href="{html.escape(source)}">{html.escape(alt, quote=False)}</a>')
        else:
            self._text(alt if alt == source else f"{alt} ({source})")
        self._title(node)

    def _title(self, node: SyntaxTreeNode) -> None:
        title = str(node.attrs.get("title", ""))
        self._text(f" ({title})" if title else "")


def _words(node: SyntaxTreeNode) -> Iterable[str]:
    return (child.content for child in node.walk() if child.type in ("text", "code_inline", "image"))


def _fence(node: SyntaxTreeNode) -> str:
    language, _, rest = node.info.strip().partition(" ")
    code = html.escape(node.content.rstrip("\n"), quote=False)
    if not code:  # Telegram drops an empty block, and its language with it
        return html.escape(node.info.strip(), quote=False)
    if not language:
        return f"<pre>{code}</pre>"
    if rest or not _LANGUAGE.fullmatch(language):
        return f"{html.escape(node.info.strip(), quote=False)}\n<pre>{code}</pre>"
    return f'<pre><code class="language-{language}">{code}</code></pre>'


def _markers(node: SyntaxTreeNode) -> list[str]:
    """Bullets, or the author's numbers; the same number all over means: count them."""
    if node.type == "bullet_list":
        return ["•"] * len(node.children)
    numbers = [item.info for item in node.children]
    if len(set(numbers)) == 1:
        numbers = [str(int(numbers[0]) + index) for index in range(len(numbers))]
    return [f"{number}." for number in numbers]


def _alignment(cell: SyntaxTreeNode) -> str:
    return str(cell.attrs.get("style", "")).removeprefix("text-align:")


def _aligned(rows: list[list[str]], alignments: list[str]) -> str:
    widths = [max(_columns(row[index]) for row in rows) for index in range(len(alignments))]
    if sum(widths) > _WIDEST_TABLE:
        widths = [0] * len(widths)  # padding would only break its lines
    lines = [
        " | ".join(_pad(cell, width, side) for cell, width, side in zip(row, widths, alignments, strict=True))
        for row in rows
    ]
    lines.insert(1, "-+-".join("-" * max(3, width) for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _pad(cell: str, width: int, side: str) -> str:
    missing = max(0, max(3, width) - _columns(cell)) if width else 0
    left = {"right": missing, "center": missing // 2}.get(side, 0)
    return " " * left + cell + " " * (missing - left)


def _columns(text: str) -> int:
    """How many columns of a fixed-width font the text takes."""
    return sum(_column(char) for char in text)


def _column(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
