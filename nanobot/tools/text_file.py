"""Text files as bytes: in which encoding and with which line ends they are, so that a change keeps both."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from nanobot.errors import ToolError

_MARKS = {  # the longer one first, where one begins with another
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Python has codecs that are slow or do something else altogether; these are encodings of text files.
_NAME = re.compile(
    r"(utf|cp|windows|iso|latin|koi8|mac|gb|big5|euc|s?hift|sjis|ascii|us-ascii|tis)[\w.-]*", re.I
)
_DECLARED = re.compile(
    rb"""<\?xml\s[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]{1,40})["']"""  # XML
    # PEP 263, Emacs, Vim: a comment in one of the first two lines
    rb"""|\A(?:[^\n]{0,200}\n)?[ \t]*(?:#|//|/\*|;|%|")[^\n]{0,200}?coding[:=][ \t]*([\w.-]{1,40})"""
    rb"""|<meta\b[^>]{0,200}?\bcharset\s*=\s*["']?([\w.:-]{1,40})"""  # HTML
    rb"""|\A@charset "([\w.:-]{1,40})";""",  # CSS
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file holds its text; `mark` stands before it. Not `known`: what is not UTF-8 passes through."""

    codec: str = "utf-8"
    mark: bytes = b""
    known: bool = True

    def decode(self, data: bytes, path: str) -> str:
        """The text of a whole file. Raises ToolError when it cannot be written back as it was."""
        text = data[len(self.mark) :].decode(self.codec, "strict" if self.known else "surrogateescape")
        if self.mark + text.encode(self.codec, "surrogateescape") != data:
            raise ToolError(
                f"{path} could not be written back in {self.codec} unchanged. Use exec with iconv."
            )
        return text

    def encode(self, text: str, path: str) -> bytes:
        """Raises ToolError when it has no place for a character."""
        text = text.removeprefix("\ufeff") if self.mark else text
        try:
            return self.mark + text.encode(self.codec, "strict" if self.known else "surrogateescape")
        except UnicodeEncodeError as error:
            if self.codec == "utf-8":  # half a character of a model, which no encoding has
                return self.mark + text.encode("utf-8", "replace")
            sign = text[error.start]
            raise ToolError(
                f"{path} is in {self.codec}, which has no {sign!r}. Do without it, or write the whole file "
                'with write_file and encoding="utf-8".'
            ) from error


def encoding_of(data: bytes, path: str, given: str = "", *, whole: bool = True) -> Encoding:
    """The encoding of a file: its mark, else the given one, else the one it names itself, else UTF-8.

    Raises ToolError when the given one is unknown or is not that of the file. Not `whole`: `data` is the
    beginning, which may end within a character.
    """
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    if mark:
        return Encoding(_MARKS[mark], mark, known=mark != codecs.BOM_UTF8 or _fits(data, "utf-8", whole))
    if given:
        encoding = named(given)
        if not _fits(data, encoding.codec, whole):
            raise ToolError(f"{path} is not in {given}. Try another encoding.")
        return encoding
    if not data.isascii() and _fits(data, "utf-8", whole):
        return Encoding()
    found = _DECLARED.search(data[:1024])
    declared = next(filter(None, found.groups()), b"").decode() if found else ""
    for name in (declared, "iso-2022-jp" if b"\x1b$" in data else "", "utf-8"):
        if _NAME.fullmatch(name) and b"\0" not in data and _fits(data, name, whole):
            return Encoding(codecs.lookup(name).name)
    return Encoding(known=False)


def _fits(data: bytes, name: str, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder(name)().decode(data, whole)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def named(name: str) -> Encoding:
    """The encoding of that name, with the mark that belongs to it. Raises ToolError for an unknown one."""
    wanted = name.strip().lower().replace("_", "-")
    if wanted in ("utf-8-sig", "utf-16", "utf-32"):
        codec = {"utf-8-sig": "utf-8"}.get(wanted, f"{wanted}-le")
        return Encoding(codec, next(mark for mark, other in _MARKS.items() if other == codec))
    try:
        return Encoding(codecs.lookup(name if _NAME.fullmatch(wanted) else "").name)
    except LookupError as error:
        raise ToolError(f'There is no encoding {name!r}. Write for example "utf-8" or "cp1252".') from error


def line_end(text: str) -> str:
    """The line end of a text that has only one kind: CRLF, CR or LF; LF for any other text."""
    if "\r" not in text:
        return "\n"
    if "\n" not in text:
        return "\r"
    return "\r\n" if text.count("\n") == text.count("\r\n") == text.count("\r") else "\n"


def not_utf8(path: str) -> ToolError:
    return ToolError(
        f'{path} is not in UTF-8. Give its encoding, for example "cp1252", "shift_jis" or "gb18030"; '
        "read_file shows whether it is the right one."
    )
