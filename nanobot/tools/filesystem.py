"""read_file, write_file, edit_file, list_dir: files as a model needs them, in pages and with hints."""

from __future__ import annotations

import asyncio
import base64
import codecs
import contextlib
import errno
import io
import os
import stat
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from nanobot.agent.tools import TEXT, WHOLE_NUMBER, Tool, ToolOutput, current_turn, object_schema
from nanobot.errors import ToolError
from nanobot.messages import ImagePart
from nanobot.security.files import PathPolicy

PAGE_LINES = 2_000
PAGE_CHARS = 40_000
LINE_CHARS = 10_000
IMAGE_BYTES = 5_000_000
EDIT_BYTES = 10_000_000
DIFF_BYTES = 50_000  # of a whole file that is compared, for people
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
    parameters = object_schema(
        "path",
        path=TEXT,
        offset={**WHOLE_NUMBER, "minimum": 1, "description": "First line, from 1"},
        limit={**WHOLE_NUMBER, "minimum": 1},
        encoding=TEXT,
    )
    read_only = True
    repeatable = True

    def __init__(self, paths: PathPolicy, record: Record | None = None) -> None:
        super().__init__(paths)
        self._record = record

    async def execute(
        self, path: str, offset: int = 1, limit: int = PAGE_LINES, encoding: str = ""
    ) -> str | ToolOutput:
        """A path `record:NUMBER` is a message of this conversation, whole: the model may have seen less."""
        number = path.removeprefix("record:")
        if self._record is None or number == path or not number.isdecimal() or len(number) > 15:
            return await super().execute(path=path, offset=offset, limit=limit, encoding=encoding)
        found = await self._record(current_turn().session_key, int(number))
        if found is None:
            raise ToolError(f"This conversation has no message {number}.")
        content = found.text.encode("utf-8", "replace")
        page = _read_page(io.BytesIO(content), path, len(content), offset, limit)
        return ToolOutput(page, found.images if current_turn().supports_images else ())

    def run(
        self, path: str, offset: int = 1, limit: int = PAGE_LINES, encoding: str = ""
    ) -> str | ToolOutput:
        from nanobot.tools import text_file

        with self._paths.open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8192)
            file.seek(0)
            image = _image_type(head)
            if image:
                return _show_image(path, image, file, size)
            found = text_file.encoding_of(head, path, encoding, whole=size == len(head))
            if found.codec != "utf-8":
                text = file.read(COUNT_BYTES)[len(found.mark) :].decode(found.codec, "replace")
                return _read_page(io.BytesIO(text.encode("utf-8", "replace")), path, size, offset, limit)
            _refuse_binary(path, head, size)
            return _read_page(file, path, size, offset, limit)


class WriteFile(_FileTool):
    name = "write_file"
    description = "Write a whole file, creating folders as needed. Use edit_file for small changes."
    parameters = object_schema("path", "content", path=TEXT, content=TEXT, encoding=TEXT)

    def run(self, path: str, content: str, encoding: str = "") -> ToolOutput:
        from nanobot.tools import text_edit, text_file

        how, old = text_file.Encoding(), b""
        with contextlib.suppress(FileNotFoundError):
            with self._paths.open_file(path) as file:
                old = file.read(EDIT_BYTES)
            how = text_file.encoding_of(old, path, whole=len(old) < EDIT_BYTES)
            if "\r" not in content:
                end = text_file.line_end(old.decode(how.codec, "replace"))
                content = content.replace("\n", end)
        if encoding:
            how = text_file.named(encoding)
        elif not (how.known or b"\0" in old or content.isascii()):
            raise text_file.not_utf8(path)
        data = how.encode(content, path)
        replaced = self._paths.replace_file(path, data)
        lines = len(content.splitlines())
        done = f"{'Overwrote' if replaced else 'Created'} {path}: {lines} lines, {len(data)} bytes."
        before = old[:DIFF_BYTES].decode(how.codec, "replace")
        return ToolOutput(done, diff=text_edit.diff(before, content[:DIFF_BYTES], 1))


class EditFile(_FileTool):
    name = "edit_file"
    description = "Replace old_text, which must occur exactly once in the file, by new_text."
    parameters = object_schema(
        "path", "old_text", "new_text", path=TEXT, old_text=TEXT, new_text=TEXT, encoding=TEXT
    )

    def run(self, path: str, old_text: str, new_text: str, encoding: str = "") -> ToolOutput:
        from nanobot.tools import text_edit, text_file

        old, new = (text.replace("\r\n", "\n") for text in (old_text, new_text))
        if not old:
            raise ToolError("old_text is empty. Give the exact text to replace, or use write_file.")
        if old == new:
            raise ToolError("old_text and new_text are the same (but for line ends): nothing to change.")
        data = self._read(path)
        how = text_file.encoding_of(data, path, encoding)
        if how.codec == "utf-8":
            _refuse_binary(path, data[:8192], len(data))
        whole = how.decode(data, path)
        only_cr = text_file.line_end(whole) == "\r"
        whole = whole.replace("\r", "\n") if only_cr else whole
        text = whole.replace("\r\n", "\n")
        position = text.find(old)
        if not how.known and (
            not (old + new).isascii() or "\udc80" <= text[max(0, position - 1)] <= "\udcff"
        ):
            raise text_file.not_utf8(path)
        if position < 0:
            raise ToolError(f"old_text does not occur in {path}. {text_edit.near_miss(text, old)}")
        if text.find(old, position + 1) >= 0:
            raise ToolError(f"old_text {text_edit.occurrences(text, old)} of {path}. Add surrounding lines.")
        edited = text_edit.replaced(whole, position, old, new)
        self._paths.replace_file(path, how.encode(edited.replace("\n", "\r") if only_cr else edited, path))
        changed = text_edit.diff(old, new, text.count("\n", 0, position) + 1)
        return ToolOutput(f"Edited {path}:\n{changed}", diff=changed)

    def _read(self, path: str) -> bytes:
        with self._paths.open_file(path) as file:
            data = file.read(EDIT_BYTES + 1)
        if len(data) > EDIT_BYTES:
            raise ToolError(
                f"{path} is larger than {_size(EDIT_BYTES)}. Change it with exec, for example sed."
            )
        return data


class ListDir(_FileTool):
    name = "list_dir"
    description = "List a folder: names and sizes, folders end in /."
    parameters = object_schema("path", path=TEXT)
    read_only = True
    repeatable = True

    def run(self, path: str) -> str:
        with self._paths.open_folder(path) as folder:
            names = sorted(os.listdir(folder))  # noqa: PTH208 (a descriptor)
            lines = [_entry_line(name, folder) for name in names[:LIST_ENTRIES]]
        if not names:
            return f"{path} is empty."
        if len(names) > len(lines):
            lines.append(f"[{len(names) - len(lines)} more of {len(names)} entries are not shown]")
        return "\n".join(lines)


def file_tools(paths: PathPolicy, record: Record | None = None) -> tuple[Tool, ...]:
    """The four file tools in their fixed order."""
    return (ReadFile(paths, record), WriteFile(paths), EditFile(paths), ListDir(paths))


def _read_page(file: BinaryIO, path: str, size: int, offset: int, limit: int) -> str:
    if file.read(3) != codecs.BOM_UTF8:
        file.seek(0)
    lines = _lines(file)
    skipped = sum(1 for _ in islice(lines, offset - 1))
    if skipped < offset - 1 and file.tell() > SKIP_BYTES:
        raise ToolError(f"Line {offset} of {path} is too far into the file. Use exec with `sed -n`.")
    if skipped < offset - 1:
        raise ToolError(f"{path} has only {skipped} lines; offset {offset} is past its end.")
    page: list[str] = []
    room, cut, invalid = PAGE_CHARS, 0, False
    for raw, left_out in islice(lines, limit):
        text = codecs.utf_8_decode(raw, "replace", not left_out)[0]
        invalid = invalid or ("\ufffd" in text and "\ufffd".encode() not in raw)
        if len(text) > LINE_CHARS or left_out:
            left_out += len(text[LINE_CHARS:].encode("utf-8", "replace"))
            text = f"{text[:LINE_CHARS]} [… {left_out} more bytes in this line]"
            cut += 1
        page.append(text)
        room -= len(text) + 1
        if room <= 0:
            break
    if not page:
        return f"[{path} is empty]" if offset == 1 else f"[{path} ends before line {offset}]"
    if invalid:
        page.append("[some bytes are not valid UTF-8 and are shown as \ufffd; give the encoding of the file]")
    if cut:
        page.append(f"[{cut} long lines were cut; use exec with `cut -c` for the rest]")
    last = offset + len(page) - invalid - bool(cut) - 1
    if next(lines, None):
        total = f"a {_size(size)} file" if size > COUNT_BYTES else last + 1 + sum(1 for _ in lines)
        page.append(f"[lines {offset}-{last} of {total}; continue with offset={last + 1}]")
    elif offset > 1:
        page.append(f"[lines {offset}-{last} of {last}]")
    return "\n".join(page)


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Each line as far as it may be shown, without its end, and how many of its bytes are left out."""
    while file.tell() <= SKIP_BYTES and (raw := file.readline(4 * LINE_CHARS)):
        left_out, piece = 0, raw
        while not piece.endswith(b"\n") and file.tell() <= SKIP_BYTES and (piece := file.readline(1 << 16)):
            left_out += len(piece.rstrip(b"\r\n"))
        yield raw.rstrip(b"\r\n"), left_out


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


def _entry_line(name: str, folder: int) -> str:
    shown = _printable(name)
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            return f"{shown} -> {_printable(os.readlink(name, dir_fd=folder))}"
    except OSError:
        return shown
    return f"{shown}/" if stat.S_ISDIR(status.st_mode) else f"{shown}  {_size(status.st_size)}"


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _size(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
