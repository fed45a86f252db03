"""Markdown, as models write it, as runs of text with the styles of a chat platform's dialect.

No text is lost: what has no counterpart there is shown as text, and if the Markdown parser drops anything of
a block, the block is shown as it was written.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nanobot.channels.dialects import Dialect, escaped
from nanobot.columns import cells

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

_WIDEST_TABLE = 100
_ADDRESS = re.compile(r"https?://[^\s<>\"]+")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
_LIST_NUMBER = re.compile(r"^[ \t>*+-]*\d{1,9}[.)]", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """What is written around a stretch of text, and (`line`) before each of its lines.

    `note` is for those who see no markup, `kept` is what of the text is in the markup alone. A `block` is cut
    between lines, if at all.
    """

    opening: str
    closing: str = ""
    line: str = ""
    note: str = ""
    kept: str = ""
    block: bool = False


class Run(NamedTuple):
    """Text in the same styles, the outermost first. Text, code (in blocks), inline (code in a line) and
    addresses are escaped, each in its own way; layout (bullets) is not.
    """

    text: str
    kind: Literal["text", "code", "inline", "address", "layout"] = "text"
    styles: tuple[Style, ...] = ()

    def within(self, style: Style) -> Run:
        """The same inside a style; what it does already is not done twice."""
        return self._replace(styles=(style, *(one for one in self.styles if one.opening != style.opening)))


def runs_of(markdown: str, dialect: Dialect) -> list[Run]:
    """The document; empty only when it is blank."""
    from markdown_it.tree import SyntaxTreeNode

    source = _clean(markdown)
    walk = _Walk(dialect, source.split("\n"))
    blocks = []
    for node in SyntaxTreeNode(_parser("](" in source).parse(source)).children:
        runs, written = walk.block(node), walk.source(node)
        blocks.append(runs if _keeps_all(written, runs) else [Run(written.strip())])
    runs = _join("\n\n", blocks)
    return runs if shown(runs).strip() else [Run(source.strip())]


def shown(runs: Iterable[Run]) -> str:
    """What people see."""
    return "".join(run.text for run in runs)


def _clean(text: str) -> str:
    """One kind of line end, and no lone surrogates, which no request can carry."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _keeps_all(source: str, runs: list[Run]) -> bool:
    """Whether every letter and digit of the source is shown, or is part of a link or language."""
    styles = {style for run in runs for style in run.styles}
    kept = shown(runs) + "".join(style.kept for style in styles)
    return not _characters(html.unescape(_LIST_NUMBER.sub("", source))) - _characters(kept)


def _characters(text: str) -> Counter[str]:
    return Counter(char for char in text if char.isalnum())


@cache
def _parser(links: bool) -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    # Raw HTML is text here. Definitions would vanish from sight. Indented text from a model is a
    # deep list far more often than code.
    parser.disable(["html_block", "html_inline", "reference", "code"])
    if not links:  # looking for them takes long in many opening brackets
        parser.disable(["link", "image"])
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    return parser


class _Walk:
    """Turns blocks of a document into runs."""

    def __init__(self, dialect: Dialect, lines: list[str]) -> None:
        self._dialect = dialect
        self._lines = lines
        self._styles = {"strong": dialect.bold, "em": dialect.italic, "s": dialect.strike}

    def source(self, node: SyntaxTreeNode) -> str:
        first, last = node.map or (0, 0)
        return "\n".join(self._lines[first:last])

    def block(self, node: SyntaxTreeNode, *, quoted: bool = False, depth: int = 0) -> list[Run]:
        dialect = self._dialect
        match node.type:
            case "heading":
                template = dialect.heading[min(int(node.tag[1:]), len(dialect.heading)) - 1]
                return self._styled(self._inline(node.children), _style(template))
            case "fence":
                return self._fence(node)
            case "bullet_list" | "ordered_list":
                return _join("\n", self._items(node, quoted, depth))
            case "blockquote":
                blocks = (self.block(child, quoted=True, depth=depth) for child in node.children)
                inner = _join("\n\n", blocks)
                if quoted and not dialect.quote_line:
                    return [Run("> "), *inner]
                style = _style(dialect.quote, line=dialect.quote_line)
                return [run._replace(styles=(style, *run.styles)) for run in inner]
            case "hr":
                return [Run(dialect.rule, "layout")]
            case "table":
                return self._table(node)
            case _:
                return self._inline(node.children)

    def _items(self, node: SyntaxTreeNode, quoted: bool, depth: int) -> Iterator[list[Run]]:
        """The items of a list, with the author's numbers; the same number all over means: count them."""
        first, *others = [item.info for item in node.children]
        counted = all(number == first for number in others)
        for index, item in enumerate(node.children):
            number = int(first) + index if first and counted else item.info
            marker = f"{number}." if node.type == "ordered_list" else self._dialect.bullet
            blocks = (self.block(child, quoted=quoted, depth=depth + 1) for child in item.children)
            yield [Run(f"{self._dialect.indent * depth}{marker} ", "layout"), *_join("\n", blocks)]

    def _fence(self, node: SyntaxTreeNode) -> list[Run]:
        info, code = node.info.strip(), node.content.rstrip("\n")
        if not code.strip():  # Telegram drops an empty block, and its language with it
            return [Run(info)] if info else []
        language = info if self._dialect.language_fence and _LANGUAGE.fullmatch(info) else ""
        template = self._dialect.language_fence if language else self._dialect.fence
        style = _style(template.replace("{language}", language), kept=language, block=True)
        return [*([Run(f"{info}\n")] if info != language else []), Run(code, "code", (style,))]

    def _table(self, node: SyntaxTreeNode) -> list[Run]:
        rows = [row.children for part in node.children for row in part.children]
        words = [[shown(self._inline(cell.children)) for cell in row] for row in rows]
        right = [cell.attrs.get("style") == "text-align:right" for cell in rows[0]]
        table = Run(_aligned(words, right), "code", (_style(self._dialect.fence, block=True),))
        source = self.source(node)  # a row may have more cells than the heading
        return [table if _keeps_all(source, [table]) else table._replace(text=source)]

    def _inline(self, nodes: Iterable[SyntaxTreeNode], *, in_link: bool = False) -> list[Run]:
        runs: list[Run] = []
        for node in nodes:
            match node.type:
                case "softbreak" | "hardbreak":
                    runs.append(Run("\n"))
                case "strong" | "em" | "s":
                    style = _style(self._styles[node.type])
                    runs += self._styled(self._inline(node.children, in_link=in_link), style)
                case "code_inline" if in_link and not self._dialect.code_nests:
                    runs.append(Run(node.content))
                case "code_inline":
                    runs.append(Run(node.content, "inline", (_style(self._dialect.code),)))
                case "link" | "image":
                    runs += self._link(node, in_link)
                case "inline":
                    runs += self._inline(node.children, in_link=in_link)
                case _:
                    runs += _text(node.content)
        return runs

    def _styled(self, runs: list[Run], style: Style) -> list[Run]:
        """The same in a style, once. Where code may not stand inside other styles, they pause around it."""
        pauses = "" if self._dialect.code_nests else "inline"
        return [run if run.kind == pauses else run.within(style) for run in runs]

    def _link(self, node: SyntaxTreeNode, in_link: bool) -> list[Run]:
        """A link or an image; with its address behind it, where the platform cannot link it."""
        dialect = self._dialect
        address = str(node.attrs.get("href" if node.type == "link" else "src", ""))
        known = re.fullmatch(dialect.links, address, re.IGNORECASE) and len(address) < dialect.limit // 2
        linked = bool(known and dialect.link and not in_link)
        if node.type == "image":
            runs = _text(node.content or address)
        else:
            runs = self._inline(node.children, in_link=in_link or linked)
        label = shown(runs).strip()
        if linked:
            different = label not in ("", address, address.removeprefix("mailto:"))
            template = dialect.link.replace("{href}", escaped(address, dialect.escape_value))
            style = _style(template, kept=address, note=f" ({address})" if different else "")
            runs = self._styled(runs if label else [*runs, Run(address, "address")], style)
        elif address and address != label:
            runs += _text(f" ({address})")
        title = str(node.attrs.get("title", ""))
        return [*runs, *_text(f" ({title})" if title else "")]


def _style(template: str, **more: Any) -> Style:
    opening, _, closing = template.partition("{text}")
    return Style(opening, closing, **more)


def _text(text: str) -> list[Run]:
    """Bare addresses apart from the rest: an escaped character would make another address of one."""
    runs: list[Run] = []
    position = 0
    for match in _ADDRESS.finditer(text):
        runs += [Run(text[position : match.start()]), Run(match[0], "address")]
        position = match.end()
    return [run for run in (*runs, Run(text[position:])) if run.text]


def _join(separator: str, blocks: Iterable[list[Run]]) -> list[Run]:
    runs: list[Run] = []
    for block in blocks:
        runs += [Run(separator), *block] if runs and block else block
    return runs


def _aligned(rows: list[list[str]], right: list[bool]) -> str:
    widths = [max(3, *map(cells, column)) for column in zip(*rows, strict=False)]
    if sum(widths) > _WIDEST_TABLE:
        widths = [0] * len(widths)  # padding would only break its lines
    lines = [" | ".join(map(_padded, row, widths, right)) for row in rows]
    lines.insert(1, "-+-".join("-" * max(3, width) for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - cells(cell))
    return space + cell if right else cell + space
