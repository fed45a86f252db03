"""HTML of a stranger to Markdown or plain text, bounded while it is parsed so nothing later has to be."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

if TYPE_CHECKING:
    from lxml.html import HtmlElement

MAX_ELEMENTS = 20_000
MAX_DEPTH = 60
MAX_CHARS = 1_000_000
MAX_ATTRIBUTE = 2_000
LITTLE_TEXT = 200

_SCRIPTS_NOTE = (
    "[This page is made by scripts, which are not run here: little or nothing of it can be read. "
    "Look for another page or an API with the same content.]"
)

# fmt: off
_DROPPED = frozenset((
    "script", "style", "noscript", "noframes", "template", "svg", "iframe", "object", "canvas", "select",
    "button", "input", "textarea", "dialog", "meta", "link",
))
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "figcaption",
    "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr",
    "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul",
))
# fmt: on
_KEPT_ATTRIBUTES = frozenset(("class", "id", "href", "src", "alt", "colspan", "rowspan", "start", "role"))
_HIDDEN_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_LANGUAGE_CLASS = re.compile(r'class="[^"]{0,200}?\b(?:language|lang|highlight-source)-([\w+#-]{1,20})')

_LONG_SPACE = re.compile(r"\s{100,}")

# Characters nobody sees but a model reads: controls, zero-width and bidirectional marks, tags, private
# use, lone surrogates, and runs of joiners or variation selectors (one alone belongs to an emoji).
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffc\ufffe\uffff\ud800-\udfff\ue000-\uf8ff"
    "\U000e0000-\U000e0fff\U000f0000-\U0010ffff]|[\u200c\u200d]{2,}|[\ufe00-\ufe0f]{2,}"
)


def tidy_text(text: str) -> str:
    """`text` without invisible characters, with plain newlines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _INVISIBLE.sub("", text)


@dataclass(frozen=True, slots=True)
class PageText:
    """`extractor` says how the text was made: readability, body, json or text. `cut`: the page went on.

    `refresh`: where the page sends its reader on to, as in a Refresh header.
    """

    text: str
    extractor: str
    cut: bool = False
    refresh: str = ""


def html_to_text(html: str, url: str, *, markdown: bool) -> PageText:
    """The main content of a page under its title. `url` makes links absolute."""
    page = _parse(html, url)
    content = _main_content(page.root)
    extractor = "readability" if content is not None else "body"
    if content is None:
        content = _without(page.root, "nav", "footer", "aside")
    text = tidy_text(_to_markdown(content) if markdown else _to_plain(content))
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", text).strip()
    needs_scripts = page.has_scripts and len(text) < LITTLE_TEXT
    text = _with_title(text, page.title, "# " if markdown else "")
    if needs_scripts:
        text = f"{text}\n\n{_SCRIPTS_NOTE}".strip()
    return PageText(text, extractor, page.full, page.refresh)


def _with_title(text: str, title: str, mark: str) -> str:
    first_line = text.partition("\n")[0].lstrip("# ").strip()
    repeats_title = len(first_line) >= 3 and first_line in title
    return text if repeats_title or not title else f"{mark}{title}\n\n{text}".rstrip()


@dataclass
class _PageBuilder:
    """Target of the parser: builds the tree of what can be seen, and no more than the limits allow.

    lxml's own tree takes quadratic time for a tag with very many attributes, and every later step suffers
    from depth and length; so the limits stand here.
    """

    builder: Any
    base: str
    title: str = ""
    refresh: str = ""
    has_scripts: bool = False
    full: bool = False
    root: Any = None
    _elements: int = 0
    _chars: int = 0
    _blank: int = 0
    _hidden: int = 0
    _in_title: bool = False
    _open: list[tuple[str, bool]] = field(default_factory=list)

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.has_scripts = self.has_scripts or tag == "script"
        if tag == "meta" and attributes.get("http-equiv", "").lower() == "refresh" and not self._hidden:
            self.refresh = self.refresh or attributes.get("content", "")[:MAX_ATTRIBUTE]
        if self._hidden:
            self._hidden += 1
        elif tag in _DROPPED or _is_hidden(attributes):
            self._hidden = 1
        elif tag == "base":
            self.base = _absolute(self.base, attributes.get("href", "")) or self.base
        elif tag == "title" and not self.title:
            self._in_title = True
        elif tag == "frame":
            link = _absolute(self.base, attributes.get("src", ""))
            for inner in ("p", "a"):  # a paragraph that is a link: a page of frames has no text
                self.start(inner, {"href": link})
            self.data(link)
            self.end("a")
            self.end("p")
        elif self._has_room(tag):
            self._elements += 1
            self._open.append((tag, True))
            self.builder.start(tag, self._kept(tag, attributes))
        else:
            self._open.append((tag, False))

    def _has_room(self, tag: str) -> bool:
        self.full = self.full or self._elements >= MAX_ELEMENTS
        repeated = tag in ("html", "body") and any(tag == seen for seen, _ in self._open[:2])
        return not self.full and not repeated and len(self._open) < MAX_DEPTH

    def _kept(self, tag: str, attributes: dict[str, str]) -> dict[str, str]:
        kept = {
            name: _INVISIBLE.sub("", value)
            for name, value in attributes.items()
            if name in _KEPT_ATTRIBUTES and len(value) <= MAX_ATTRIBUTE
        }
        for name in ("href", "src"):
            if name in kept:
                kept[name] = _absolute(self.base, kept[name])
        return {name: value for name, value in kept.items() if value}

    def end(self, tag: str) -> None:
        if self._hidden:
            self._hidden -= 1
        elif self._in_title and tag == "title":
            self._in_title = False
        # What follows </body> or </html> still belongs to the page.
        elif tag not in ("html", "body") and self._open and self._open[-1][0] == tag and self._open.pop()[1]:
            self.builder.end(tag)

    def data(self, text: str) -> None:
        # Some expressions of the libraries below take quadratic time on long runs of white space.
        text = _LONG_SPACE.sub("\n", _INVISIBLE.sub("", text))
        if self._in_title:
            self.title = " ".join(f"{self.title}{text}"[:500].split())
        elif not self._hidden and not self.full and self._elements:
            self._blank = self._blank + len(text) if text.isspace() else 0
            if self._blank > 100:
                return
            text = text[: MAX_CHARS - self._chars]
            self._chars += len(text)
            self.full = self._chars >= MAX_CHARS
            self.builder.data(text)

    def close(self) -> _PageBuilder:
        while self._open:
            tag, in_tree = self._open.pop()
            if in_tree:
                self.builder.end(tag)
        if not self._elements:
            self.builder.start("html", {})
            self.builder.end("html")
        self.root = self.builder.close()
        if self.root.find("body") is None:
            self.root.append(self.root.makeelement("body"))
        return self


def _is_hidden(attributes: dict[str, str]) -> bool:
    return "hidden" in attributes or _HIDDEN_STYLE.search(attributes.get("style", "")[:500]) is not None


def _absolute(base: str, link: str) -> str:
    """The link as http, https or mailto URL, else empty: other kinds run code or hold data."""
    try:
        joined = urljoin(base, link.strip())
    except ValueError:
        return ""
    return joined if joined.startswith(("http://", "https://", "mailto:")) else ""


def _parse(html: str, url: str) -> _PageBuilder:
    from lxml import etree
    from lxml.html import HTMLParser, html_parser

    page = _PageBuilder(etree.TreeBuilder(element_factory=html_parser.makeelement), base=url)
    # A declaration of another encoding is not accepted in text that is decoded already.
    source = re.sub(r"^\s*<\?xml[^>]*>", "", html.replace("\0", ""))
    etree.fromstring(source if source.strip() else "<html>", HTMLParser(target=page))
    return page


def _main_content(root: HtmlElement) -> HtmlElement | None:
    """The article of the page, or None when readability finds too little to stand for it.

    Lists of links, short pages and some docs pages are such: less than 250 characters, or less than a
    quarter of what the page shows.
    """
    import copy
    import logging

    from lxml.etree import ParserError
    from lxml.html import fragment_fromstring, tostring
    from readability import Document
    from readability.readability import Unparseable

    class Article(Document):  # type: ignore[misc]
        def sanitize(self, node: HtmlElement, candidates: object, keep_all_images: bool = False) -> str:
            """Keep what is in the article: the library would drop short lists, tables and code too."""
            return str(tostring(_without(node, "nav", "footer", "aside"), encoding="unicode"))

    logging.getLogger("readability").setLevel(logging.CRITICAL)
    try:
        article = Article(copy.deepcopy(root)).summary(html_partial=True)
        content = fragment_fromstring(article, create_parent="div")
    except (Unparseable, ParserError):
        return None
    length = len(_visible(content))
    return content if length >= 250 and length * 4 >= len(_visible(root)) else None


def _without(root: HtmlElement, *tags: str) -> HtmlElement:
    """`root` with these elements taken out, unless they are all there is."""
    import copy

    from lxml import etree

    rest = copy.deepcopy(root)
    etree.strip_elements(rest, *tags, with_tail=False)
    return rest if _visible(rest) else root


def _visible(element: HtmlElement) -> str:
    return " ".join(element.text_content().split())


def _to_markdown(content: HtmlElement) -> str:
    from bs4 import BeautifulSoup
    from lxml.etree import tostring
    from markdownify import MarkdownConverter

    for image in list(content.iter("img")):
        if not image.get("alt", "").strip() or not image.get("src"):
            image.drop_tree()
    soup = BeautifulSoup(tostring(content, encoding="unicode", method="html", with_tail=False), "lxml")
    converter = MarkdownConverter(
        heading_style="atx",
        bullets="-",
        escape_underscores=False,
        escape_asterisks=False,
        table_infer_header=True,
        code_language_callback=_code_language,
    )
    return str(converter.convert_soup(soup))


def _code_language(pre: object) -> str:
    """`python` for `<pre class="language-python">` or a `<code>` inside that says so."""
    found = _LANGUAGE_CLASS.search(str(pre)[:1000])
    return found[1] if found else ""


def _to_plain(content: HtmlElement) -> str:
    """The words, one line per block; cells of a table row are separated by tabs."""
    for element in content.iter():
        if element.tag in _BLOCKS:
            element.text = "\n" + (element.text or "")
            element.tail = "\n" + (element.tail or "")
        elif element.tag in ("td", "th"):
            element.tail = "\t" + (element.tail or "").strip()
    lines = (re.sub(r"[^\S\t\n]+", " ", line).strip() for line in content.text_content().splitlines())
    return "\n".join(line for line in lines if line)
