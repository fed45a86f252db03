"""read_file, write_file, edit_file, list_dir: files as a model needs them, in pages and with hints."""

from __future__ import annotations

import asyncio
import base64
import codecs
import contextlib
import errno
import heapq
import io
import os
import stat
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from nanobot.agent.tools.base import Tool, ToolOutput, current_turn
from nanobot.errors import ToolError
from nanobot.messages import ImagePart
from nanobot.security.files import PathPolicy

PAGE_LINES = 2_000
PAGE_CHARS = 40_000
LINE_CHARS = 10_000
IMAGE_BYTES = 5_000_000
EDIT_BYTES = 10_000_000
COUNT_BYTES = 8_000_000
SKIP_BYTES = 500_000_000
LIST_ENTRIES = 500

_IMAGES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}
_BINARIES = {
    b"%PDF": "a PDF document (try `pdftotext`)",
    b"PK\x03\x04": "a ZIP archive or Office document",
    b"\x1f\x8b": "gzip data",
    b"\x7fELF": "a program",
    b"SQLite format 3": "an SQLite database",
}


# Session key and number of a message -> what it holds.
Record = Callable[[str, int], Awaitable[ToolOutput | None]]


class _FileTool(Tool):
    """Runs `run` in a thread and turns system errors into advice."""

    errors_are_text = False
    origin = "file"

    def __init__(self, paths: PathPolicy) -> None:
        self._paths = paths

    @abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> str | ToolOutput:
        """Do the work with the arguments of the call; may raise OSError."""

    async def execute(self, *args: Any, **kwargs: Any) -> str | ToolOutput:
        return await asyncio.to_thread(self._explained, **kwargs)

    def _explained(self, path: str, **kwargs: Any) -> str | ToolOutput:
        try:
            return self.run(path=path, **kwargs)
        except FileNotFoundError as error:
            raise ToolError(f"{path} does not exist.{self._nearest(path)}") from error
        except IsADirectoryError as error:
            raise ToolError(f"{path} is a folder. Use list_dir to see what is in it.") from error
        except NotADirectoryError as error:
            raise ToolError(f"{path}: a part of this path is a file, not a folder.") from error
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
            raise ToolError(f"{path}: {reason}.") from error

    def _nearest(self, path: str) -> str:
        """The names most like the missing one, in the deepest folder of `path` that exists."""
        import difflib

        wanted = self._paths.resolve(path)
        names: dict[str, str] = {}
        with contextlib.suppress(OSError):
            while not wanted.parent.is_dir():
                wanted = wanted.parent
            with self._paths.open_folder(wanted.parent) as folder, os.scandir(folder) as entries:
                names = {entry.name.lower(): entry.name for entry in islice(entries, 10_000)}
        close = difflib.get_close_matches(wanted.name.lower(), names, n=3, cutoff=0.5)
        there = ", ".join(_printable(names[name]) for name in close)
        return f" Nearest names in {wanted.parent}: {there}." if there else " Use list_dir to look around."


class ReadFile(_FileTool):
    name = "read_file"
    description = "Read a text file, or look at an image. Long files come in pages."
    parameters = {
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "offset": {"type": "integer", "minimum": 1, "description": "First line, from 1"},
            "limit": {"type": "integer", "minimum": 1, "description": "Number of lines"},
        },
        "required": ["path"],
    }
    read_only = True
    repeatable = True

    def __init__(self, paths: PathPolicy, record: Record | None = None) -> None:
        super().__init__(paths)
        self._record = record

    async def execute(self, path: str, offset: int = 1, limit: int = PAGE_LINES) -> str | ToolOutput:
        """A path `record:NUMBER` is a message of this conversation, whole: the model may have seen less."""
        number = path.removeprefix("record:")
        if self._record is None or number == path or not number.isdecimal() or len(number) > 15:
            return await super().execute(path=path, offset=offset, limit=limit)
        found = await self._record(current_turn().session_key, int(number))
        if found is None:
            raise ToolError(f"This conversation has no message {number}.")
        content = found.text.encode("utf-8", "replace")
        page = _read_page(io.BytesIO(content), path, len(content), offset, limit)
        return ToolOutput(page, found.images if current_turn().supports_images else ())

    def run(self, path: str, offset: int = 1, limit: int = PAGE_LINES) -> str | ToolOutput:
        with self._paths.open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8192)
            file.seek(0)
            image = _image_type(head)
            if image:
                return _show_image(path, image, file, size)
            if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                text = file.read(COUNT_BYTES).decode("utf-16", "replace")
                return _read_page(io.BytesIO(text.encode("utf-8", "replace")), path, size, offset, limit)
            _refuse_binary(path, head, size)
            return _read_page(file, path, size, offset, limit)


class WriteFile(_FileTool):
    name = "write_file"
    description = "Write a whole file, creating folders as needed. Use edit_file for small changes."
    parameters = {
        "type": "object",
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["path", "content"],
    }

    def run(self, path: str, content: str) -> str:
        data = content.encode("utf-8", "replace")
        replaced = self._paths.replace_file(path, data)
        lines = len(content.splitlines())
        return f"{'Overwrote' if replaced else 'Created'} {path}: {lines} lines, {len(data)} bytes."


class EditFile(_FileTool):
    name = "edit_file"
    description = "Replace old_text, which must occur exactly once in the file, by new_text."
    parameters = {
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "old_text": {"type": "string"},
            "new_text": {"type": "string"},
        },
        "required": ["path", "old_text", "new_text"],
    }

    def run(self, path: str, old_text: str, new_text: str) -> str:
        from nanobot.tools import text_edit

        if not old_text:
            raise ToolError("old_text is empty. Give the exact text to replace, or use write_file.")
        if old_text == new_text:
            raise ToolError("old_text and new_text are the same: nothing to change.")
        text = self._read(path)
        old, new = text_edit.with_line_ends_of(text, old_text, new_text)
        position = text.find(old)
        if position < 0:
            raise ToolError(f"old_text does not occur in {path}. {text_edit.near_miss(text, old_text)}")
        if text.find(old, position + 1) >= 0:
            raise ToolError(f"old_text {text_edit.occurrences(text, old)} of {path}. Add surrounding lines.")
        edited = text[:position] + new + text[position + len(old) :]
        self._paths.replace_file(path, edited.encode("utf-8", "surrogateescape"))
        return f"Edited {path}:\n{text_edit.diff(old, new, text.count(chr(10), 0, position) + 1)}"

    def _read(self, path: str) -> str:
        with self._paths.open_file(path) as file:
            data = file.read(EDIT_BYTES + 1)
        if len(data) > EDIT_BYTES:
            raise ToolError(
                f"{path} is larger than {_size(EDIT_BYTES)}. Change it with exec, for example sed."
            )
        _refuse_binary(path, data[:8192], len(data))
        return data.decode("utf-8", "surrogateescape")


class ListDir(_FileTool):
    name = "list_dir"
    description = "List a folder: names and sizes, folders end in /."
    parameters = {
        "type": "object",
        "properties": {"path": {"type": "string"}},
        "required": ["path"],
    }
    read_only = True
    repeatable = True

    def run(self, path: str) -> str:
        with self._paths.open_folder(path) as folder, os.scandir(folder) as entries:
            counter = _Counted(entries)
            shown = heapq.nsmallest(LIST_ENTRIES, counter, key=lambda entry: entry.name)
            lines = [_entry_line(entry, folder) for entry in shown]
        if not lines:
            return f"{path} is empty."
        if counter.count > len(lines):
            lines.append(f"[{counter.count - len(lines)} more of {counter.count} entries are not shown]")
        return "\n".join(lines)


def file_tools(paths: PathPolicy, record: Record | None = None) -> tuple[Tool, ...]:
    """The four file tools in their fixed order."""
    return (ReadFile(paths, record), WriteFile(paths), EditFile(paths), ListDir(paths))


@dataclass
class _Page:
    lines: list[str]
    chars: int = 0
    cut_lines: int = 0
    invalid: bool = False


def _read_page(file: BinaryIO, path: str, size: int, offset: int, limit: int) -> str:
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)
    skipped = _skip_lines(file, offset - 1, path)
    if skipped < offset - 1:
        raise ToolError(f"{path} has only {skipped} lines; offset {offset} is past its end.")
    page = _Page([])
    while len(page.lines) < limit and page.chars < PAGE_CHARS and _add_line(file, page):
        pass
    if not page.lines:
        return f"[{path} is empty]" if offset == 1 else f"[{path} ends before line {offset}]"
    return "\n".join([*page.lines, *_page_notes(file, page, size, offset)])


def _add_line(file: BinaryIO, page: _Page) -> bool:
    raw = file.readline(LINE_CHARS * 4)
    if not raw:
        return False
    complete = raw.endswith(b"\n")
    left_out = 0 if complete else _skip_rest_of_line(file)
    try:
        text = codecs.utf_8_decode(raw, "strict", not left_out)[0]
    except UnicodeDecodeError:
        page.invalid = True
        text = raw.decode("utf-8", "replace")
    text = text.rstrip("\r\n")
    if len(text) > LINE_CHARS or left_out:
        left_out += len(text[LINE_CHARS:].encode("utf-8", "replace"))
        text = f"{text[:LINE_CHARS]} [… {left_out} more bytes in this line]"
        page.cut_lines += 1
    page.lines.append(text)
    page.chars += len(text) + 1
    return True


def _skip_rest_of_line(file: BinaryIO) -> int:
    """Move to the next line; the number of bytes passed over."""
    passed = 0
    while piece := file.readline(1 << 16):
        passed += len(piece.rstrip(b"\r\n"))
        if piece.endswith(b"\n") or passed > SKIP_BYTES:
            break
    return passed


def _skip_lines(file: BinaryIO, wanted: int, path: str) -> int:
    """Move behind `wanted` line ends; the number of lines really passed."""
    passed = 0
    while passed < wanted:
        start = file.tell()
        chunk = file.read(1 << 20)
        if not chunk or start > SKIP_BYTES:
            break
        found = chunk.count(b"\n")
        if passed + found < wanted:
            passed += found
            continue
        position = 0
        for _ in range(wanted - passed):
            position = chunk.index(b"\n", position) + 1
        file.seek(start + position)
        return wanted
    if file.tell() > SKIP_BYTES:
        raise ToolError(f"Line {wanted + 1} of {path} is too far into the file. Use exec with `sed -n`.")
    return passed


def _page_notes(file: BinaryIO, page: _Page, size: int, offset: int) -> list[str]:
    """What the model must know about what it does not see."""
    notes = []
    last = offset + len(page.lines) - 1
    if page.invalid:
        notes.append("[some bytes are not valid UTF-8 and are shown as \ufffd]")
    if page.cut_lines:
        notes.append(f"[{page.cut_lines} long lines were cut; use exec with `cut -c` for the rest]")
    more = file.read(1)
    if more:
        unread = _count_lines(file, more) if size <= COUNT_BYTES else None
        total = f"a {_size(size)} file" if unread is None else last + unread
        notes.append(f"[lines {offset}-{last} of {total}; continue with offset={last + 1}]")
    elif offset > 1:
        notes.append(f"[lines {offset}-{last} of {last}]")
    return notes


def _count_lines(file: BinaryIO, chunk: bytes) -> int | None:
    """Lines in `chunk` and the rest of the file; None when that is too long to be counted."""
    count = read = 0
    last = b""
    while chunk:
        count, read, last = count + chunk.count(b"\n"), read + len(chunk), chunk
        if read > COUNT_BYTES:
            return None
        chunk = file.read(1 << 20)
    return count + (not last.endswith(b"\n"))


def _image_type(head: bytes) -> str:
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    return next((kind for magic, kind in _IMAGES.items() if head.startswith(magic)), "")


def _show_image(path: str, kind: str, file: BinaryIO, size: int) -> str | ToolOutput:
    label = f"{path} is a {kind.upper()} image of {_size(size)}"
    try:
        seen = current_turn().supports_images
    except LookupError:
        seen = False
    if not seen:
        return f"{label}. This model cannot see images."
    if size > IMAGE_BYTES:
        return f"{label}, larger than the {_size(IMAGE_BYTES)} that can be shown. Make it smaller with exec."
    data = base64.b64encode(file.read(IMAGE_BYTES)).decode()
    return ToolOutput(f"{label}, shown here.", (ImagePart(f"image/{kind}", data),))


def _refuse_binary(path: str, head: bytes, size: int) -> None:
    kind = next((text for magic, text in _BINARIES.items() if head.startswith(magic)), "")
    if not kind and b"\0" not in head:
        return
    raise ToolError(
        f"{path} is {kind or 'a binary file'}, {_size(size)}, and cannot be handled as text. "
        "Use exec with a program that understands it (`file`, `strings`)."
    )


class _Counted:
    """Iterates over directory entries and remembers how many there were."""

    def __init__(self, entries: Any) -> None:
        self._entries = entries
        self.count = 0

    def __iter__(self) -> Any:
        for entry in self._entries:
            self.count += 1
            yield entry


def _entry_line(entry: os.DirEntry[str], folder: int) -> str:
    name = _printable(entry.name)
    try:
        if entry.is_symlink():
            return f"{name} -> {_printable(os.readlink(entry.name, dir_fd=folder))}"
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return name
    return f"{name}/" if stat.S_ISDIR(status.st_mode) else f"{name}  {_size(status.st_size)}"


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
