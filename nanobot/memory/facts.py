"""The lines of MEMORY.md and HISTORY.md: one fact a line, one dated entry a paragraph. What nanobot writes
ends in a comment that says where it comes from, and a line without one is the owner's own:

    - Lives in Paris. <!-- 2026-11-26 cli:direct#12,14 -->
    - Lunch is at noon. <!-- 2026-11-26 group telegram:-100#7 -->

    [2026-11-26 14:05] Talked about moving to Paris. <!-- cli:direct#1-40 -->
    - [2026-11-26] superseded: Lives in Berlin. (2025-01-02) → Lives in Paris. <!-- cli:direct#12,14 -->

Evidence is a session key, `#` and the numbers of messages. The word `group` marks what was said in a group:
it is for that group alone. Characters that would end a comment or a key are percent-encoded."""

from __future__ import annotations

import codecs
import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from urllib.parse import quote, unquote

from nanobot.errors import StorageError, ToolError
from nanobot.security.files import read_inside

FACTS_FILE, HISTORY_FILE = "MEMORY.md", "HISTORY.md"

_COMMENT = re.compile(r"<!--(.*?)(?:-->|\Z)", re.DOTALL)
_BULLET = re.compile(r"^(?:[-*+]|\d+[.)])\s+")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_YEARS = range(1900, 2200)  # others are slips of the pen, and some computers cannot place them in time
_MESSAGE_ID = re.compile(r"(.+)#([0-9]{1,15})", re.DOTALL)
_SEQS = re.compile(r"[0-9]{1,9}(?:[-,][0-9]{1,9})*")
# The time may have seconds and a zone behind it; they are passed over.
_ENTRY = re.compile(
    rf"(?:[-*+]\s+)?\[({_DAY.pattern})(?:[ T]([0-9]{{2}}:[0-9]{{2}})[0-9:.,+Z -]{{0,20}})?\]\s*"
)
_DATED = re.compile(rf"(?:[-*+]\s+)?\[({_DAY.pattern})")
_PAST = re.compile(r"(superseded|expired): ")
_HALF = re.compile("[\ud800-\udfff]")  # half a character, or a byte that is no UTF-8: in no key
_KEY_SAFE = "!$&'()*+/:;=@[]^_`{|}~.,?"
_LONGEST = 20_000  # characters of a line; longer ones were not written by hand, and stop no other line
_MOST_NUMBERS = 10_000  # of one line: a range typed by hand may be anything


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a line comes from. `day` is an ISO date or "", `messages` are ids such as `cli:direct#12`.
    `is_group`: said in a group, whose session `messages` name."""

    day: str = ""
    messages: tuple[str, ...] = ()
    is_group: bool = False

    @property
    def group(self) -> str:
        """The group this is for, alone, or "" for everybody else; "-" when nobody knows which."""
        if not self.is_group:
            return ""
        return split_message_id(self.messages[0])[0] if self.messages else "-"


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of MEMORY.md. `line` is its line in the file, counted from 0, or -1."""

    text: str
    origin: Evidence = Evidence()
    line: int = field(default=-1, compare=False)

    @property
    def id(self) -> str:
        """The first 8 hex digits of the SHA-256 of the text; case and spacing do not count."""
        normal = unicodedata.normalize("NFC", plain_text(self.text)).casefold()
        return hashlib.sha256(normal.encode("utf-8", "replace")).hexdigest()[:8]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An entry of HISTORY.md, `text` without its date. `past`: superseded, expired or "".
    `origin.day` is the day it was written; `time` is `HH:MM` or "". `line` as for facts."""

    text: str
    origin: Evidence = Evidence()
    time: str = ""
    past: str = ""
    line: int = field(default=-1, compare=False)


def read_memory(path: Path) -> bytes:
    """What a memory file in a folder of the workspace holds, nothing when there is none.
    Raises StorageError, also for a link that leads out of the workspace."""
    try:
        return read_inside(path.parent.parent, path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StorageError(f"Cannot read {path}: {error.strerror}. Check its rights.") from error
    except ToolError as error:
        raise StorageError(f"{path.name} is not read: {error}") from error


def decode_memory(content: bytes) -> str:
    """The text of a memory file: UTF-8, or UTF-16 with its mark. `encode_memory` gives every byte back."""
    return content.decode(*_encoding(content))


def encode_memory(text: str, like: bytes = b"") -> bytes:
    """`text` in the encoding of the file that holds `like`."""
    return text.encode(*_encoding(like))


def _encoding(content: bytes) -> tuple[str, str]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(content) % 2 == 0:
        return ("utf-16-le" if content.startswith(codecs.BOM_UTF16_LE) else "utf-16-be"), "surrogatepass"
    return "utf-8", "surrogateescape"


def message_id(session_key: str, seq: int) -> str:
    """The id of a message, as searches show it."""
    return f"{session_key}#{seq}"


def split_message_id(name: str) -> tuple[str, int]:
    """(session key, seq) of an id. Raises ValueError when it is none."""
    found = _MESSAGE_ID.fullmatch(name)
    if not found or _HALF.search(name):
        raise ValueError(f"{name!r} is no message id")
    return found[1], int(found[2])


def plain_text(text: str) -> str:
    """`text` on one line, without comments and control characters: what a fact may consist of."""
    shown = _COMMENT.sub(" ", text).replace("-->", " ")
    if not shown.isprintable():
        shown = "".join(char if char.isprintable() else " " for char in shown)
    return " ".join(shown.split())


def parse_facts(text: str) -> list[Fact]:
    """The facts of MEMORY.md: every line that is no heading and has words outside of comments."""
    return [
        Fact(_BULLET.sub("", words), _parse_origin(comment), number)
        for number, words, comment in _lines(text)
        if not words.startswith("#") and any(char.isalnum() for char in words)
    ]


def format_fact(fact: Fact) -> str:
    """The line of a fact, without a line break; `parse_facts` reads it back."""
    return f"- {plain_text(fact.text)}{_format_origin(fact.origin)}"


def parse_history(text: str) -> list[HistoryEntry]:
    """The entries of HISTORY.md. An entry begins with its date; other lines belong to the one before.
    Lines before the first date are entries without one."""
    entries: list[
        tuple[HistoryEntry, list[str], list[Evidence]]
    ] = []  # each with its lines and their origins
    for number, words, comment in _lines(text):
        if words.startswith("#") or not words:
            continue
        origin, dated = _parse_origin(comment), _ENTRY.match(words)
        if dated and _is_day(dated[1]):
            day, time, body = dated[1], dated[2] or "", words[dated.end() :]
        elif entries and entries[-1][0].origin.day and not entries[-1][0].past:
            entries[-1][1].append(words)
            entries[-1][2].append(origin)
            continue
        else:
            day, time, body = origin.day, "", words
        past = _PAST.match(body)
        entry = HistoryEntry(body, Evidence(day), time, past[1] if past else "", number)
        entries.append((entry, [body], [origin]))
    return [
        replace(entry, text=" ".join(lines), origin=_joined(entry.origin.day, origins))
        for entry, lines, origins in entries
    ]


def read_lines(path: Path) -> dict[str, Fact | HistoryEntry]:
    """What MEMORY.md or HISTORY.md holds, by the line that is written for it. Raises StorageError."""
    text = decode_memory(read_memory(path))
    if path.name == FACTS_FILE:
        return {format_fact(fact): fact for fact in parse_facts(text)}
    return {format_entry(entry): entry for entry in parse_history(text)}


def _joined(day: str, origins: list[Evidence]) -> Evidence:
    messages = dict.fromkeys(itertools.chain.from_iterable(origin.messages for origin in origins))
    return Evidence(day, tuple(messages), any(origin.is_group for origin in origins))


def unreadable(text: str) -> Iterator[tuple[int, str]]:
    """(line counted from 1, what is wrong) for each line of a memory file that is not read as meant."""
    raw = text.split("\n")
    for number, words, comment in _lines(text):
        dated = _DATED.match(words)
        days = [*([dated[1]] if dated else []), *filter(_DAY.fullmatch, comment.split())]
        if len(raw[number]) > _LONGEST:
            yield number + 1, f"it is longer than {_LONGEST:,} characters and left out"
        elif wrong := next((day for day in days if not _is_day(day)), ""):
            yield number + 1, f"there is no day {wrong}"
        elif dated and not _ENTRY.match(words):
            yield number + 1, f"what follows {dated[1]} in the brackets is no time like 14:05"
        elif _HALF.search(raw[number]):
            yield number + 1, "it has bytes that are no UTF-8"
        elif "\0" in raw[number]:
            yield number + 1, "it has a NUL character"


def format_entry(entry: HistoryEntry) -> str:
    """The line of an entry, without a line break; `parse_history` reads it back."""
    when = f"[{entry.origin.day} {entry.time}".strip() + "] " if entry.origin.day else ""
    origin = Evidence("", entry.origin.messages, entry.origin.is_group)
    bullet = "- " if entry.past else ""
    return f"{bullet}{when}{plain_text(entry.text)}{_format_origin(origin)}"


def superseded(old: Fact, new: str, day: str) -> HistoryEntry:
    """The entry that keeps a fact findable which is no longer true; `new` is what replaces it, or ""."""
    past = "superseded" if new else "expired"
    since = f" ({old.origin.day})" if old.origin.day else ""
    text = f"{past}: {plain_text(old.text)}{since}" + (f" → {plain_text(new)}" if new else "")
    return HistoryEntry(text, Evidence(day, old.origin.messages, old.origin.is_group), past=past)


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """(number, words outside of comments, the line's last comment) of every line; of a long one nothing."""
    inside = False
    for number, line in enumerate(text.split("\n")):
        if len(line) > _LONGEST:
            yield number, "", ""
            continue
        if inside:
            _, found, line = line.partition("-->")
            inside = not found
        comments = _COMMENT.findall(line)
        inside = inside or line.rfind("<!--") > line.rfind("-->")
        yield number, plain_text(line), comments[-1] if comments else ""


def _parse_origin(comment: str) -> Evidence:
    words = comment.split()
    day = next((word for word in words if _is_day(word)), "")
    messages = itertools.islice(itertools.chain.from_iterable(map(_message_ids, words)), _MOST_NUMBERS)
    return Evidence(day, tuple(dict.fromkeys(messages)), "group" in words)


def _is_day(word: str) -> bool:
    try:
        return bool(_DAY.fullmatch(word)) and date.fromisoformat(word).year in _YEARS
    except ValueError:  # the 31st of June
        return False


def _message_ids(evidence: str) -> Iterator[str]:
    """The ids that a word such as `cli:direct#1-3,7` stands for; none when it is no such word."""
    key, _, numbers = evidence.rpartition("#")
    session_key = unquote(key)
    if not session_key or _HALF.search(session_key) or not _SEQS.fullmatch(numbers):
        return
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        yield from (message_id(session_key, seq) for seq in range(int(first), int(last or first) + 1))


def _format_origin(origin: Evidence) -> str:
    sessions: dict[str, list[int]] = {}
    for name in origin.messages:
        session_key, seq = split_message_id(name)
        sessions.setdefault(session_key, []).append(seq)
    evidence = [f"{quote(key, safe=_KEY_SAFE)}#{_ranges(numbers)}" for key, numbers in sessions.items()]
    words = [*filter(None, [origin.day]), *(["group"] if origin.is_group else []), *evidence]
    return f" <!-- {' '.join(words)} -->" if words else ""


def _ranges(numbers: Iterable[int]) -> str:
    in_a_row = itertools.groupby(enumerate(sorted(set(numbers))), lambda place: place[1] - place[0])
    spans = [[number for _, number in run] for _, run in in_a_row]
    return ",".join(f"{span[0]}-{span[-1]}" if span[1:] else str(span[0]) for span in spans)
