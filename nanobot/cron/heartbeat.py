"""The heartbeat: every now and then the assistant looks into HEARTBEAT.md by itself.

To look costs nothing, a model that finds nothing to do does. An open task is any line of prose, item, box or
row of a table that does not only decorate: headings, rules, fences, quotes, table heads, comments, front
matter.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from nanobot.columns import cells
from nanobot.cron.service import owners_chat
from nanobot.errors import NanobotError, StorageError
from nanobot.messages import InboundMessage
from nanobot.security.files import PathPolicy
from nanobot.store import mail, sessions
from nanobot.store.sqlite import Connection
from nanobot.store.store import Store

log = logging.getLogger(__name__)

_LONGEST_WAIT = 30.0  # seconds; the clock on the wall may be set meanwhile
_MOST_BYTES = 1_000_000
_PROMPT = (
    "[Heartbeat: nobody has written.] Read HEARTBEAT.md in the workspace and work on its open tasks that are"
    " due. Your answer goes to the owner's chat. If there is nothing to tell, answer exactly HEARTBEAT_OK."
)

_COMMENT = re.compile(r"<!--.*?(?:-->[ \t]*|\Z)", re.DOTALL)
_TAG = re.compile(r"</?[A-Za-z][\w-]{0,30}\s?/?>")
_STRUCK_TAG = re.compile(r"</?(?:del|s|strike)>", re.IGNORECASE)
_STRUCK = re.compile(r"~~[^~]+~~")
# Keys, lists, comments and what is further in, up to the closing line; but no open box.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?=[\w.-]+:\s)"
    r"(?:(?!.*\[ \])(?:[\w.-]+:(?:[ \t].*)?|[ \t#].*|- .*|)\n)*?"
    r"(?:---|\.{3})[ \t]*(?:\n|\Z)"
)
_LINE = re.compile(r"(\s*)((?:[>#]\s*|(?:[-*+•]|\d{1,9}[.)])(?:\s+|\Z))*)(\[.?\](?=\s|\Z))?(.*)")
_FENCE = re.compile(r"(?:`{3,}|~{3,})\s*[\w+#.-]*")
_BOLD = re.compile(r"[^\w*]{0,9}(\*{2,3}|__)[^*_]+\1[^\w*]{0,9}")
_UNDERLINE = re.compile(r"(={3,}|-{3,})\s*")
_TABLE_RULE = re.compile(r"[\s:|+-]+")
_MARKDOWN_COMMENT = re.compile(r"\[[^\]]+\]:\s*(?:#|<>)")
_NOTHING = 1_000_000_000  # an indent that no line has
_DONE = {f"[{mark}]" for mark in "xX✓✔✅☑-"}  # the last one: cancelled
# SHA-256 of the lines that the older nanobot has written into every new workspace about this file itself.
_OLDER_TEMPLATE = {"ca7d11579a957587", "cfb33971d4f8f8bd", "f224bc137e5bd0f9"}


@dataclass(frozen=True)
class Heartbeat:
    """Ticks at every full `interval` (seconds) of the clock, into the owner's chat, see owners_chat."""

    store: Store
    file: Path
    channels: Sequence[str]
    interval: float
    deliver_to: str = ""

    async def run(self) -> None:
        """Tick until cancelled. The interval that is already running is not made up for."""
        last = self._slot()
        while True:
            rest = self.interval - self.store.database.clock() % self.interval
            await asyncio.sleep(min(_LONGEST_WAIT, rest))
            if self._slot() != last:
                last = self._slot()
                try:
                    await self.tick()
                except (StorageError, OSError) as error:
                    log.error("The heartbeat failed: %s", error)

    async def tick(self) -> bool:
        """Start a turn if HEARTBEAT.md asks for one; False when not, or when one runs or ran already."""
        if not await asyncio.to_thread(has_tasks, self.file):
            return False
        found = await owners_chat(self.store, self.channels, self.deliver_to)
        if found is None:
            log.warning("HEARTBEAT.md has tasks, but nobody has written yet: there is no chat for results.")
            return False
        (name, chat), now = found, self.store.database.clock()
        ids = (f"heartbeat:{now}", "heartbeat")  # its own, its session's
        inbound = InboundMessage(name, chat, "heartbeat", _PROMPT, *ids, sent_at=now, source="heartbeat")
        return await self.store.database.write(_accept, inbound, self._slot() * self.interval)

    def _slot(self) -> int:
        return int(self.store.database.clock() // self.interval)


def _accept(connection: Connection, tick: InboundMessage, since: float) -> bool:
    """Accept a tick in a fresh context, once `since` then and never beside another one."""
    session = tick.session_key
    connection.hold(session)
    query = "SELECT started_at FROM turns WHERE session = ? ORDER BY id DESC LIMIT 1"
    newest = connection.row(query, session)
    waits = sessions.running_turn(connection, session) or mail.has_pending(connection, session)
    if waits or (newest and since <= newest["started_at"] <= connection.now):
        return False
    sessions.start_over(connection, session)
    return mail.accept(connection, tick)


def has_tasks(file: Path) -> bool:
    """Whether there is an open task in `file`. A link that leaves its folder is named and not followed."""
    try:
        with PathPolicy(file.parent, restrict=True).open_file(file) as opened:
            data = opened.read(_MOST_BYTES)
    except FileNotFoundError:
        return False
    except (NanobotError, OSError) as error:
        log.warning("%s is not looked at: %s", file, error)
        return False
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    return has_open_task(data.decode(encoding, errors="replace"))


def has_open_task(text: str) -> bool:
    """Whether `text`, a HEARTBEAT.md, holds anything to do; linear in its length."""
    text = "\n".join(_COMMENT.sub("", _STRUCK_TAG.sub("~~", text)).splitlines())
    lines = _FRONT_MATTER.sub("", text).splitlines()
    notes_of = _NOTHING  # the indent of the done task above, whose notes are further in
    for line, below in zip_longest(lines, lines[1:], fillvalue=""):
        found = _LINE.fullmatch(line.expandtabs(4))
        if found is None or not line.strip():
            continue
        indent, marks, box, words = len(found[1]), found[2], found[3] or "", _TAG.sub("", found[4]).strip()
        if indent <= notes_of:
            notes_of = _NOTHING
        left = _STRUCK.sub("", words)
        if box in _DONE or (left != words and not _says_anything(left)):
            notes_of = min(notes_of, indent)
        elif _says_anything(words) and (box or (indent <= notes_of and not _decorates(marks, words, below))):
            return True
    return False


def _says_anything(words: str) -> bool:
    return any(map(str.isalnum, words))


def _decorates(marks: str, words: str, below: str) -> bool:
    """Whether a line with these `words` behind its marks, above the line `below`, is no task."""
    if marks.startswith(("#", ">")):
        return True
    if marks:
        return False
    if words.startswith("|") and _all_cells_done(words):
        return True
    line = _UNDERLINE.fullmatch(below)
    # Dashes below a task are a rule, unless they are made to measure.
    underlined = line and (line[1][0] == "=" or abs(len(line[1]) - cells(words)) <= 1)
    table_head = "|" in words and "|" in below and _TABLE_RULE.fullmatch(below)
    shapes = (_FENCE.fullmatch(words), _BOLD.fullmatch(words), _MARKDOWN_COMMENT.match(words))
    template_line = hashlib.sha256(words.encode()).hexdigest()[:16]
    return bool(underlined or table_head or any(shapes) or template_line in _OLDER_TEMPLATE)


def _all_cells_done(row: str) -> bool:
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    boxes = {cell[:3] for cell in cells} & {"[ ]", *_DONE}
    if boxes:
        return "[ ]" not in boxes
    return not any(_says_anything(_STRUCK.sub("", cell)) for cell in cells)
