"""Conversations in JSON Lines: those of the older nanobot (`sessions/*.jsonl`) and our own exports.

The files are only read. What makes no sense is left out and counted; calls and results are paired again.
The older format has a line `{"_type": "metadata", "key": …}`, and messages as in Chat Completions.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

from nanobot.errors import UsageError
from nanobot.messages import INTERRUPTED, ImagePart, Message, Role, TextPart, ToolCall, ToolResult
from nanobot.messages import message_from_json as own_message
from nanobot.store.imports import import_session, known_imports
from nanobot.store.records import ImportedSession, SessionKind, StoredMessage
from nanobot.store.store import Store

_READER = 1  # to be raised when more can be read: then what was left out is tried again
_LONGEST_LINE = 32_000_000  # bytes; images are in it
_END_OF_TIME = 253_000_000_000  # the year 9987
_TITLE = 60
_WRONG = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)
_IMAGE = r"data:(image/[\w.+-]+);base64,([A-Za-z0-9+/=\s]+)"
_KINDS: dict[str, SessionKind] = {"cron": "job", "heartbeat": "heartbeat", "subagent": "subagent"}
_GROUP = r"telegram:-|slack:[CG]|feishu:oc_|whatsapp:.*@g\.us"  # chat ids of several people


def older_files(home: Path, workspace: Path) -> dict[str, Path]:
    """The conversations of the older nanobot, each with a name; of a linked folder only that, as no file."""
    files: dict[str, Path] = {}
    for label, folder in (("workspace/sessions", workspace / "sessions"), ("sessions", home / "sessions")):
        if folder.is_symlink():
            files[label] = folder
        elif folder.is_dir():
            files |= {f"{label}/{ascii(path.name)[1:-1]}": path for path in sorted(folder.glob("*.jsonl"))}
    return files


async def import_sessions(store: Store, home: Path, workspace: Path) -> list[str]:
    """Take over conversations of the older nanobot, each file once; what to tell the owner.

    A file of which something had to be left out is taken over once more when it was changed.
    """
    files = older_files(home, workspace)
    known = await store.database.read(known_imports, [*files])
    added: dict[Path, list[str]] = {}
    notices: list[str] = []
    for name, path in files.items():
        about = os.lstat(path)
        state = f"{_READER}:{about.st_size}:{about.st_mtime_ns}"
        if name in known and (not known[name][0] or known[name][1] == state):
            continue
        session, left_out = ImportedSession("", "", ()), ""
        try:
            session, problems = await asyncio.to_thread(read_file, path, follow=False)
            lines = f"{problems} lines" if problems > 1 else "1 line"
            left_out = f"{lines} of {path} cannot be read and are left out." if problems else ""
        except UsageError as error:
            left_out = f"{error} It is left out; `nanobot session import` follows links."
        if key := await store.database.write(import_session, session, name, left_out, state):
            added.setdefault(path.parent, []).append(key)
        notices += filter(None, [left_out])
    for folder, keys in added.items():
        shown = ", ".join(keys[:5]) + ", …" * (len(keys) > 5)
        notices.append(f"Conversations taken over from {folder}: {shown}. The files stay.")
    return notices


async def left_out_sessions(store: Store, home: Path, workspace: Path) -> list[str]:
    """What of the older nanobot's conversations is still left out, a sentence for each file."""
    known = await store.database.read(known_imports, [*older_files(home, workspace)])
    return sorted(left_out for left_out, _ in known.values() if left_out)


def read_file(path: Path, *, follow: bool) -> tuple[ImportedSession, int]:
    """The conversation in a file, and how many lines or results had to be left out. Raises UsageError."""
    reader = _Reader()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
        with os.fdopen(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise UsageError(f"{path} is no file.")
            reader.time = about.st_mtime
            for line in filter(bytes.strip, iter(lambda: file.readline(_LONGEST_LINE), b"")):
                try:
                    reader.take(line)
                except _WRONG:
                    reader.problems += 1
    except OSError as error:
        reason = "it is a link" if path.is_symlink() and not follow else error.strerror
        raise UsageError(f"{path} cannot be read: {reason}.") from error
    return reader.session(path), reader.problems


@dataclass
class _Reader:
    """Collects a conversation line by line. `time` is what messages without one get."""

    time: float = 0.0
    problems: int = 0
    key: str = ""
    title: str = ""
    consolidated: int = 0
    found: list[StoredMessage] = field(default_factory=list)

    def take(self, line: bytes) -> None:
        """Raises one of `_WRONG` for what makes no sense."""
        data = json.loads(line)
        if data.get("_type") == "metadata":
            self.key = str(data.get("key") or "")
            self.consolidated = max(0, int(data.get("last_consolidated") or 0))
            return
        if "parts" in data:
            message, turn, time = _checked(own_message(data)), int(data["turn"]), float(data["created_at"])
            if not 0 <= time < _END_OF_TIME:
                raise ValueError("no time")
            self.time = time
            self.key = self.key or str(data.get("session") or "")
            self.title = self.title or str(data.get("title") or "")
        elif (message := _older_message(data)).parts:
            with contextlib.suppress(*_WRONG):
                self.time = datetime.fromisoformat(data["timestamp"]).timestamp()
            turn = (self.found[-1].turn_id if self.found else 0) + (message.role == "user")
        else:
            return  # the older nanobot wrote empty answers too
        self.found.append(StoredMessage(len(self.found) + 1, turn, self.time, message))

    def session(self, path: Path) -> ImportedSession:
        keys = (self.key, path.stem.replace("_", ":", 1), "cli:imported")
        key = next(key for key in keys if key.strip(": ") and key.isprintable() and len(key) < 300)
        first = next((" ".join(s.message.text.split()) for s in self.found if s.message.role == "user"), "")
        messages = list(self._paired())
        start = max((n for n, one in enumerate(messages, 1) if one.seq <= self.consolidated), default=0)
        title = (self.title or first)[:_TITLE].encode("utf-8", "replace").decode()
        kind = _KINDS.get(key.partition(":")[0], "chat")  # the older format says it in the key only
        return ImportedSession(key, title, messages, start, bool(re.match(_GROUP, key)), kind)

    def _paired(self) -> Iterator[StoredMessage]:
        """Every call with its one result right behind it, under an id of its own."""
        used: set[str] = set()
        spoken: list[tuple[StoredMessage, list[StoredMessage]]] = []  # a message, the results behind it
        for stored in self.found:
            if stored.message.role != "tool":
                spoken.append((stored, []))
            elif spoken:
                spoken[-1][1].append(stored)
            else:
                self.problems += 1
        for stored, results in spoken:
            left = {result.message.tool_results[0].call_id: result for result in results}
            lost = stored._replace(message=Message("tool", (ToolResult("", "", INTERRUPTED, "interrupted"),)))
            parts, answers = [], []
            for part in stored.message.parts:
                if isinstance(part, ToolCall):
                    found = left.pop(part.id, lost)
                    part = part._replace(id=_unused(part.id, used))
                    result = found.message.tool_results[0]._replace(call_id=part.id, name=part.name)
                    answers.append(found._replace(message=Message("tool", (result,))))
                parts.append(part)
            yield stored._replace(message=Message(stored.message.role, tuple(parts)))
            yield from answers
            self.problems += len(results) - sum(answer.seq != stored.seq for answer in answers)


def _checked(message: Message) -> Message:
    """Raises ValueError for what could not have been exported."""
    kinds: dict[Any, type] = {str: str, Mapping[str, Any]: dict}
    for part in message.parts:
        for name, kind in get_type_hints(type(part)).items():
            if not isinstance(getattr(part, name), kinds.get(kind, object)):
                raise ValueError("a part is of the wrong type")
    if len(message.tool_results) != (message.role == "tool") or message.role not in get_args(Role):
        raise ValueError("a part is at the wrong place")
    return message


def _unused(call_id: str, used: set[str]) -> str:
    names = itertools.chain([call_id], (f"{call_id}_{number}" for number in itertools.count(2)))
    unique = next(name for name in names if name not in used)
    used.add(unique)
    return unique


def _older_message(data: dict[str, Any]) -> Message:
    """A message of Chat Completions; `content` is text or a list of parts."""
    role, content = data["role"], data.get("content") or ""
    parts = tuple(_older_parts(content if isinstance(content, list) else [{"text": str(content)}]))
    if role == "tool":
        text = "".join(part.text for part in parts if isinstance(part, TextPart))
        result = ToolResult(str(data["tool_call_id"]), str(data.get("name") or "tool"), text)
        return Message("tool", (result,))
    if role not in ("user", "assistant"):
        raise ValueError(f"role {role}")
    calls = [_older_call(call) for call in data.get("tool_calls") or ()]
    return Message(role, (*parts, *calls))


def _older_parts(content: Iterable[dict[str, Any]]) -> Iterator[TextPart | ImagePart]:
    for part in content:
        if "image_url" in part:
            image = re.fullmatch(_IMAGE, part["image_url"]["url"])
            yield ImagePart(*image.groups()) if image else TextPart(f"[image: {part['image_url']['url']}]")
        elif part["text"]:
            yield TextPart(str(part["text"]))


def _older_call(data: dict[str, Any]) -> ToolCall:
    arguments = data["function"].get("arguments") or "{}"
    known: Any = arguments
    with contextlib.suppress(ValueError, TypeError):
        known = json.loads(arguments)
    call = ToolCall(str(data["id"]), str(data["function"]["name"]), known)
    return call if isinstance(known, dict) else call._replace(arguments={}, malformed=str(arguments))
