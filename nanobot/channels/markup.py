"""Markdown, as models write it, in the markup of a chat platform: one walk, a table of dialects.

Nothing a model writes makes a platform refuse the result, and no text is lost: what has no counterpart
there is shown as text, and if the Markdown parser drops anything, the source is.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from nanobot.channels.splitting import split_text, utf16_len
from nanobot.columns import cells

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

# text, code (in blocks), inline (code in a line) and address are shown, each escaped in its own way, layout
# (bullets, prefixes) is shown as it is; kept is in the markup, but not seen (a link's address, a fence's
# language), mark is markup alone, and note is for those who see no markup.
Span = tuple[Literal["text", "code", "inline", "address", "layout", "kept", "mark", "note"], str]
Escapes = tuple[tuple[str, str], ...]

_WIDEST_TABLE = 100
_ADDRESS = re.compile(r"https?://[^\s<>\"]+")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]+")
_LIST_NUMBER = re.compile(r"^[ \t>*+-]*\d{1,9}[.)]", re.MULTILINE)
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a platform writes styles. Escapes are (regular expression, replacement), applied in order:
    `escape_code` to code and bare addresses, before it `escape_inline` to code in a line, `escape_value` to
    what is inside the markup.

    A message holds `limit` characters, or UTF-16 units, of what is shown or (`counts_markup`) of what is
    sent, and `byte_limit` bytes. `quote_line` stands before each line of a quote; `code_nests` says whether
    code may stand inside other styles; `links` which addresses may be linked.
    """

    limit: int
    utf16: bool = False
    counts_markup: bool = True
    byte_limit: int = 0
    escape: Escapes = ()
    escape_code: Escapes = ()
    escape_inline: Escapes = ()
    escape_value: Escapes = ()
    bold: str = "{text}"
    italic: str = "{text}"
    strike: str = "{text}"
    code: str = "{text}"
    heading: tuple[str, ...] = ("{text}",)  # by level; the last one counts for those below
    fence: str = "{code}"
    language_fence: str = ""
    link: str = ""
    links: str = r"(?:https?://|mailto:)\S+"
    quote: str = "{text}"
    quote_line: str = ""
    bullet: str = "•"
    indent: str = "   "
    rule: str = "———"
    code_nests: bool = True

    def length(self, text: str) -> int:
        """The length as the platform counts."""
        return utf16_len(text) if self.utf16 else len(text)


HTML: Escapes = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))
HTML_VALUE: Escapes = (*HTML, ('"', "&quot;"), ("'", "&#x27;"))


@dataclass(frozen=True, slots=True)
class Rendered:
    """`source` in a dialect as `text`, and without any markup as `plain`. `size` is what the limit is for."""

    source: str
    text: str
    plain: str
    size: int


def render_text(markdown: str, dialect: Dialect) -> Rendered:
    """Text for the platform; empty only when `markdown` is blank."""
    source = _clean(markdown)
    spans = _Walk(dialect, source).document()
    if not _shown(spans).strip() or not _keeps_all(source, spans):
        spans = [("text", source.strip())]
    text = "".join(_written(spans, dialect))
    plain = "".join(text for kind, text in spans if kind not in ("kept", "mark")).strip()
    return Rendered(source, text, plain, dialect.length(text if dialect.counts_markup else _shown(spans)))


def render_pieces(markdown: str, dialect: Dialect) -> Iterator[Rendered]:
    """As many messages as are needed."""
    waiting = list(reversed(split_text(_clean(markdown), dialect.limit, length=dialect.length)))
    while waiting:
        piece = render_text(waiting.pop(), dialect)
        length = dialect.length(piece.source)
        heavy = dialect.byte_limit and len(piece.text.encode()) > dialect.byte_limit
        if length <= 16 or (piece.size <= dialect.limit and not heavy):
            yield piece
        else:  # rendering made it longer, as it does with aligned tables
            waiting.extend(reversed(split_text(piece.source, length // 2, length=dialect.length)))


def _clean(text: str) -> str:
    """One kind of line end, and no lone surrogates, which no request can carry."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _written(spans: Iterable[Span], dialect: Dialect) -> Iterator[str]:
    escapes: dict[str, Escapes] = {"text": dialect.escape, "kept": dialect.escape_value}
    escapes |= {"code": dialect.escape_code, "address": dialect.escape_code}
    escapes["inline"] = dialect.escape_inline + dialect.escape_code
    for kind, text in spans:
        if kind != "note":
            for pattern, replacement in escapes.get(kind, ()):
                text = re.sub(pattern, replacement, text)
            yield text


def _shown(spans: Iterable[Span]) -> str:
    return "".join(text for kind, text in spans if kind not in ("kept", "mark", "note"))


def _keeps_all(source: str, spans: Iterable[Span]) -> bool:
    """Whether every letter and digit of the source is shown, or is part of a link or language."""
    written = html.unescape(_LIST_NUMBER.sub("", source))
    kept = "".join(text for kind, text in spans if kind not in ("mark", "note"))
    return not _characters(written) - _characters(kept)


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


class _Walk:
    """Turns a document into spans. `styles` are the templates of the styles that are open."""

    def __init__(self, dialect: Dialect, source: str) -> None:
        self._dialect = dialect
        self._source = source
        self._styles = {"strong": dialect.bold, "em": dialect.italic, "s": dialect.strike}

    def document(self) -> list[Span]:
        from markdown_it.tree import SyntaxTreeNode

        root = SyntaxTreeNode(_parser().parse(self._source))
        return self._blocks("\n\n", root, quoted=False, depth=0)

    def _blocks(self, separator: str, parent: SyntaxTreeNode, *, quoted: bool, depth: int) -> list[Span]:
        return _join(separator, (self._block(node, quoted, depth) for node in parent.children))

    def _block(self, node: SyntaxTreeNode, quoted: bool, depth: int) -> list[Span]:
        dialect = self._dialect
        match node.type:
            case "heading":
                style = dialect.heading[min(int(node.tag[1:]), len(dialect.heading)) - 1]
                return _fill(style, text=self._inline(node.children, (style,)))
            case "fence":
                return self._fence(node)
            case "bullet_list" | "ordered_list":
                return _join("\n", self._items(node, quoted, depth))
            case "blockquote":
                inner = self._blocks("\n\n", node, quoted=True, depth=depth)
                if dialect.quote_line:
                    return _prefixed(inner, dialect.quote_line)
                return [("text", "> "), *inner] if quoted else _fill(dialect.quote, text=inner)
            case "hr":
                return [("layout", dialect.rule)]
            case "table":
                return self._table(node)
            case _:
                return self._inline(node.children)

    def _items(self, node: SyntaxTreeNode, quoted: bool, depth: int) -> Iterator[list[Span]]:
        """The items of a list, with the author's numbers; the same number all over means: count them."""
        numbers = [item.info for item in node.children]
        if node.type == "bullet_list":
            markers = [self._dialect.bullet] * len(numbers)
        elif len(set(numbers)) == 1:
            markers = [f"{int(numbers[0]) + index}." for index in range(len(numbers))]
        else:
            markers = [f"{number}." for number in numbers]
        for marker, item in zip(markers, node.children, strict=True):
            body = self._blocks("\n", item, quoted=quoted, depth=depth + 1)
            yield [("layout", f"{self._dialect.indent * depth}{marker} "), *body]

    def _fence(self, node: SyntaxTreeNode) -> list[Span]:
        info, code = node.info.strip(), node.content.rstrip("\n")
        if not code:  # Telegram drops an empty block, and its language with it
            return [("text", info)] if info else []
        if info and self._dialect.language_fence and _LANGUAGE.fullmatch(info):
            return _fill(self._dialect.language_fence, language=[("kept", info)], code=[("code", code)])
        block = _fill(self._dialect.fence, code=[("code", code)])
        return [("text", f"{info}\n"), *block] if info else block

    def _table(self, node: SyntaxTreeNode) -> list[Span]:
        rows = [row.children for part in node.children for row in part.children]
        cells = [[_shown(self._inline(cell.children)) for cell in row] for row in rows]
        first, last = node.map or (0, 0)
        source = "\n".join(self._source.split("\n")[first:last])
        sides = [str(cell.attrs.get("style", "")).removeprefix("text-align:") for cell in rows[0]]
        table = _aligned(cells, sides)
        if not _keeps_all(source, [("code", table)]):  # a row with more cells than the heading has
            table = source
        return _fill(self._dialect.fence, code=[("code", table)])

    def _inline(
        self, nodes: Iterable[SyntaxTreeNode], styles: tuple[str, ...] = (), in_link: bool = False
    ) -> list[Span]:
        spans: list[Span] = []
        for node in nodes:
            match node.type:
                case "softbreak" | "hardbreak":
                    spans.append(("text", "\n"))
                case "strong" | "em" | "s":
                    style = self._styles[node.type]
                    within = styles if style in styles else (*styles, style)
                    inner = self._inline(node.children, within, in_link)
                    spans += inner if style in styles else _fill(style, text=inner)
                case "code_inline":
                    spans += self._code(node.content, styles, in_link)
                case "link" | "image":
                    spans += self._link(node, styles, in_link)
                case "inline":
                    spans += self._inline(node.children, styles, in_link)
                case _:
                    spans += _text(node.content)
        return spans

    def _code(self, text: str, styles: tuple[str, ...], in_link: bool) -> list[Span]:
        """Where code may not stand inside other styles, they pause around it."""
        code = _fill(self._dialect.code, text=[("inline", text)])
        if self._dialect.code_nests:
            return code
        if in_link:
            return _text(text)
        pairs = [style.split("{text}") for style in styles]
        closed: list[Span] = [("mark", closing) for _, closing in reversed(pairs)]
        return [*closed, *code, *(("mark", opening) for opening, _ in pairs)]

    def _link(self, node: SyntaxTreeNode, styles: tuple[str, ...], in_link: bool) -> list[Span]:
        """A link or an image; with its address behind it, where the platform cannot link it."""
        address = str(node.attrs.get("href" if node.type == "link" else "src", ""))
        known = re.fullmatch(self._dialect.links, address, re.IGNORECASE)
        linked = bool(known and self._dialect.link and not in_link)
        if node.type == "image":
            inner = _text(node.content or address)
        else:
            inner = self._inline(node.children, styles, in_link or linked)
        shown = _shown(inner).strip()
        if linked:
            label: list[Span] = inner if shown else [*inner, ("address", address)]
            spans = _fill(self._dialect.link, text=label, href=[("kept", address)])
            if shown not in ("", address, address.removeprefix("mailto:")):
                spans.append(("note", f" ({address})"))
        else:
            spans = [*inner, *_text(f" ({address})" if address and address != shown else "")]
        title = str(node.attrs.get("title", ""))
        return [*spans, *_text(f" ({title})" if title else "")]


def _text(text: str) -> list[Span]:
    """Bare addresses apart from the rest: an escaped character would make another address of one."""
    spans: list[Span] = []
    position = 0
    for match in _ADDRESS.finditer(text):
        spans += [("text", text[position : match.start()]), ("address", match[0])]
        position = match.end()
    return [*spans, ("text", text[position:])]


def _prefixed(spans: Iterable[Span], prefix: str) -> list[Span]:
    """The same with `prefix` before each line."""
    result: list[Span] = [("layout", prefix)]
    for kind, text in spans:
        first, *lines = text.split("\n")
        result.append((kind, first))
        for line in lines:
            result += [(kind, "\n"), ("mark" if kind == "mark" else "layout", prefix), (kind, line)]
    return result


def _fill(template: str, **parts: list[Span]) -> list[Span]:
    """The template as markup, with each `{name}` replaced by spans."""
    spans: list[Span] = []
    for index, piece in enumerate(_SLOT.split(template)):
        spans += parts[piece] if index % 2 else [("mark", piece)]
    return spans


def _join(separator: str, blocks: Iterable[list[Span]]) -> list[Span]:
    spans: list[Span] = []
    for block in blocks:
        spans += [("text", separator), *block] if spans and block else block
    return spans


def _aligned(rows: list[list[str]], alignments: list[str]) -> str:
    widths = [max(cells(row[index]) for row in rows) for index in range(len(alignments))]
    if sum(widths) > _WIDEST_TABLE:
        widths = [0] * len(widths)  # padding would only break its lines
    lines = [
        " | ".join(_pad(cell, width, side) for cell, width, side in zip(row, widths, alignments, strict=True))
        for row in rows
    ]
    lines.insert(1, "-+-".join("-" * max(3, width) for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _pad(cell: str, width: int, side: str) -> str:
    missing = max(0, max(3, width) - cells(cell)) if width else 0
    left = {"right": missing, "center": missing // 2}.get(side, 0)
    return " " * left + cell + " " * (missing - left)
