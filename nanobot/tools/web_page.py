"""What a downloaded page says: its kind, its encoding, its text."""

from __future__ import annotations

import codecs
import json
import re

from nanobot.tools.web_html import PageText, html_to_text, tidy_text

_TEXT_TYPES = re.compile(
    r"text/|application/(json|xml|javascript|ecmascript|yaml|x-yaml|toml|x-ndjson|x-sh|sql|graphql)$"
    r"|.*\+(json|xml|yaml)$"
)
_UNKNOWN_TYPES = ("", "application/octet-stream", "binary/octet-stream", "application/x-download")
_HTML_TYPES = ("text/html", "application/xhtml+xml")
_BINARY_SIGN = re.compile("[\x01-\x08\x0e-\x1a\x7f\ufffd]")
_HTML_START = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b", re.IGNORECASE | re.DOTALL)

# Encodings a web page may name (https://encoding.spec.whatwg.org), and what such a name really means.
# Others are not looked up: Python has codecs that are slow or do something else altogether.
_WEB_ENCODINGS = re.compile(
    r"utf-?8|utf-16(le|be)?|us-ascii|latin-?1|iso-?8859-\d{1,2}|(windows|cp)-?125\d|koi8-[ru]|macintosh"
    r"|gb2312|gbk|gb18030|big5(-hkscs)?|euc-(jp|kr)|shift[_-]jis|iso-2022-jp|tis-620"
)
_REALLY = {"latin1": "cp1252", "latin-1": "cp1252", "iso-8859-1": "cp1252", "us-ascii": "cp1252"}
_REALLY |= {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "shift-jis": "cp932"}
_REALLY |= {"euc-kr": "cp949", "iso-8859-9": "cp1254"}
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_HEADER_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def may_be_text(content_type: str) -> bool:
    """Whether a body of this type is worth reading; unknown types are judged by their bytes later."""
    kind = media_type(content_type)
    return kind in _UNKNOWN_TYPES or _TEXT_TYPES.match(kind) is not None


def decode(body: bytes, content_type: str = "") -> str | None:
    """The text of a body, or None if it is binary.

    Order of the HTML standard: byte order mark, header, meta tag; then UTF-8, then Windows-1252.
    """
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    header = _HEADER_CHARSET.search(content_type)
    if header and (encoding := _web_encoding(header[1])):
        return body.decode(encoding, "replace")
    if b"\0" in body[:4096]:
        return None
    meta = _META_CHARSET.search(body[:4096])
    if meta and (encoding := _web_encoding(meta[1].decode("ascii", "replace"))):
        # A page that can say so in ASCII letters is not UTF-16, whatever it says.
        return body.decode("utf-8" if encoding.startswith("utf-16") else encoding, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        cut_in_a_character = error.start > len(body) - 4
        return body.decode("utf-8" if cut_in_a_character else "cp1252", "replace")


def _web_encoding(label: str) -> str:
    label = label.lower()
    if not _WEB_ENCODINGS.fullmatch(label):
        return ""
    name = _REALLY.get(label, label.replace("windows-", "cp"))
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""


def read_page(body: bytes, content_type: str, url: str, markdown: bool) -> PageText | None:
    """The readable part of a body, or None if it is binary. `url` makes links absolute."""
    text = decode(body, content_type)
    if text is None:
        return None
    kind = media_type(content_type)
    if kind in _HTML_TYPES or (kind in _UNKNOWN_TYPES and _HTML_START.match(text[:2000])):
        return html_to_text(text, url, markdown=markdown)
    if kind in _UNKNOWN_TYPES and len(_BINARY_SIGN.findall(text[:4096])) > len(text[:4096]) // 50:
        return None
    if kind.endswith(("/json", "+json")):
        return PageText(tidy_text(_pretty_json(text)), "json")
    return PageText(tidy_text(text), "text")


def _pretty_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
