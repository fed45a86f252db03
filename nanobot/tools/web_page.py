"""What the bytes of a page mean: whether they are text, in which encoding, and the text itself."""

from __future__ import annotations

import codecs
import re

from nanobot.tools.web_html import PageText, html_to_text, tidy_text

_TEXT_TYPES = re.compile(
    r"text/|application/(json|xml|javascript|ecmascript|yaml|x-yaml|toml|x-ndjson|x-sh|sql|graphql)$"
    r"|.*\+(json|xml|yaml)$"
)
_UNKNOWN_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-download")
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_BINARY_SIGN = re.compile("[\x01-\x08\x0e-\x1a\x7f\ufffd]")
_HTML_TAG = re.compile(r"<(!doctype html|html|head|body)\b", re.IGNORECASE)

_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([^\s"';,]{1,40})""", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"""\s{0,100}<\?xml\s[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]{1,40})["']""")
_STARTS = {  # byte order marks, and the first character of a page in UTF-16 without one
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
_PRESCAN = 1024  # bytes in which the HTML standard looks for a meta tag before anything else
_TAG = re.compile(
    r"<!--.*?-->|<(/?[a-z][^\s/>]*+)((?:[^>\"']|\"[^\"]*\"|'[^']*')*+)>|<[!/?][^>]*>",
    re.IGNORECASE | re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([^\s/>="']+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+))""")
_LATE_META = re.compile(rb"""<meta\s[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_LATE = 100_000  # bytes in which a page that is not UTF-8 may still say what it is


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def may_be_text(content_type: str) -> bool:
    """Whether a body of this type is worth reading; unknown types are judged by their bytes later."""
    kind = media_type(content_type)
    return kind in _UNKNOWN_TYPES or _TEXT_TYPES.match(kind) is not None


def decode(body: bytes, content_type: str = "") -> str | None:
    """The text of a body, or None if it is binary.

    The order of the HTML and XML standards: byte order mark, header, what the page says of itself (XML
    declaration, meta tag); then UTF-8, then Windows-1252. https://encoding.spec.whatwg.org has the labels.
    """
    start, marked = next(((mark, name) for mark, name in _STARTS.items() if body.startswith(mark)), (b"", ""))
    if marked and b"<" not in start:
        return body[len(start) :].decode(marked, "replace")
    header = _CHARSET.search(content_type)
    encoding = (_codec(header[1]) if header else "") or marked
    if not encoding:
        if b"\0" in body[:4096]:
            return None
        encoding = _codec(_declared(body, media_type(content_type)))
        # A page that can say so in ASCII letters is not UTF-16, whatever it says.
        encoding = "utf-8" if encoding.startswith("utf-16") else encoding
    if encoding:
        return body.decode(encoding, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        if (
            error.reason == "unexpected end of data" and not body[: error.start].isascii()
        ):  # cut in a character
            return body.decode("utf-8", "replace")
        late = _LATE_META.search(body[:_LATE])
        return body.decode((late and _codec(late[1].decode("ascii", "replace"))) or "cp1252", "replace")


def _codec(label: str) -> str:
    """Python's name of an encoding that a browser knows by this label, else empty."""
    import webencodings

    found = webencodings.lookup(label)
    if found is None or found.name in ("replacement", "x-user-defined"):
        return ""
    return "gb18030" if found.name == "gbk" else found.codec_info.name


def _declared(body: bytes, kind: str) -> str:
    declaration = _XML_ENCODING.match(body)
    in_xml = declaration[1].decode("ascii", "replace") if declaration else ""
    if in_xml and kind.endswith(("/xml", "+xml")):
        return in_xml
    return _in_meta(body[:_PRESCAN].decode("latin-1")) or in_xml


def _in_meta(head: str) -> str:
    """The first encoding that a meta tag names: `charset=…`, or `http-equiv=content-type` with content."""
    for tag in _TAG.finditer(head):
        if (tag[1] or "").lower() != "meta":
            continue
        found = reversed(_ATTRIBUTE.findall(tag[2]))
        given = {name.lower(): double or single or bare for name, double, single, bare in found}
        in_content = _CHARSET.search(given.get("content", ""))
        if "charset" in given:
            return str(given["charset"])
        if in_content and given.get("http-equiv", "").lower() == "content-type":
            return in_content[1]
    return ""


def read_page(body: bytes, content_type: str, url: str, markdown: bool) -> PageText | None:
    """The readable part of a body, or None if it is binary. `url` makes links absolute."""
    text = decode(body, content_type)
    if text is None:
        return None
    kind = media_type(content_type)
    sniffed = (*_UNKNOWN_TYPES, "text/xml", "application/xml")
    if kind in _HTML_TYPES or (kind in sniffed and _starts_as_html(text[:2000])):
        return html_to_text(text, url, markdown=markdown)
    if kind in _UNKNOWN_TYPES and len(_BINARY_SIGN.findall(text[:4096])) > len(text[:4096]) // 50:
        return None
    return PageText(tidy_text(text), "json" if kind.endswith(("/json", "+json")) else "text")


def _starts_as_html(text: str) -> bool:
    """Whether an HTML tag is the first thing after comments and an XML declaration."""
    while (text := text.lstrip()).startswith(("<!--", "<?xml")):
        text = text.partition("-->" if text.startswith("<!--") else "?>")[2]
    return _HTML_TAG.match(text) is not None
