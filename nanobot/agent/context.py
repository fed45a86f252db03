"""The system prompt, its most stable parts first, and what is said of the moment a message comes in."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from nanobot.errors import ToolError
from nanobot.messages import ContextPart, InboundMessage, Message
from nanobot.security.files import PathPolicy

log = logging.getLogger(__name__)

OWNER_FILES = ("AGENTS.md", "SOUL.md", "USER.md", "TOOLS.md", "IDENTITY.md")

_PROMPTS = f"{Path(__file__).parent}/prompts"
_OWNER_FILE_LIMIT = 16_000  # characters of one owner file that reach the prompt
_READ = 1_000_000  # bytes of it that are read
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


class PromptSection(Protocol):
    """A part of the system prompt that another room writes: skills, memory."""

    name: str

    def text(self, inbound: InboundMessage) -> str:
        """The part for this turn, or "". Asked for every turn: cheap, and the same as long as it can be."""


class PromptBuilder:
    """Builds the system prompt; what the owner writes in the workspace counts from the next turn on."""

    def __init__(
        self,
        workspace: Path,
        sections: Sequence[PromptSection] = (),
        clock: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        self._workspace = workspace
        self._sections = sections
        self._clock = clock
        self._texts: dict[str, tuple[tuple[int, ...], str]] = {}  # by path: a file's stamp and its text

    def parts(self, inbound: InboundMessage, *, with_tools: bool) -> list[tuple[str, str]]:
        """Name and text of every part of the system prompt: the most stable one first."""
        if not with_tools:
            return [("rules", self._text(f"{_PROMPTS}/chat_only.md"))]
        parts = [("rules", self._text(f"{_PROMPTS}/system.md").format(workspace=self._workspace))]
        parts += self.owner_parts(OWNER_FILES)
        parts += [(section.name, section.text(inbound)) for section in self._sections]
        return [(name, text) for name, text in parts if text]

    def owner_parts(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Name and part of these files of the owner, those left out that say nothing."""
        parts = [(name, self._owner_part(self._workspace, name)) for name in names]
        return [(name, part) for name, part in parts if part]

    def _owner_part(self, folder: Path, name: str) -> str:
        text = self._text(f"{folder}/{name}")
        if len(text) > _OWNER_FILE_LIMIT:
            text = f"{text[:_OWNER_FILE_LIMIT]}\n[… cut; read {name} for the rest …]"
        says = any(line.strip() and not line.startswith("#") for line in text.splitlines())
        return f"[{name}]\n{text}" if says else ""

    def moment(self, inbound: InboundMessage, shown: Sequence[Message] = ()) -> str:
        """What changes from turn to turn; it travels in the newest message to keep the prefix stable.

        An AGENTS.md in the folder where the owner stands is said once, as long as it is among those `shown`.
        """
        now = self._clock()
        note = f"[{now:%Y-%m-%d %H:%M %A} UTC{now:%z}; channel {inbound.channel}, chat {inbound.chat_id}]\n"
        if not inbound.folder or Path(inbound.folder) == self._workspace:
            return note
        note += f"[The owner is in {inbound.folder!r}: relative paths in the owner's words start there, those"
        note += " of tools in the workspace]\n"
        rules = self._owner_part(Path(inbound.folder), "AGENTS.md")
        notes = [part for message in shown for part in message.parts if isinstance(part, ContextPart)]
        return note if not rules or any(rules in part.text for part in notes) else f"{note}{rules}\n"

    def _text(self, path: str) -> str:
        """What a file says beside its comments, "" when there is none; read again when it has changed."""
        try:
            about = os.stat(path)  # noqa: PTH116  # every turn asks for each file
            stamp = (about.st_mtime_ns, about.st_size, about.st_ino)
            if path not in self._texts or self._texts[path][0] != stamp:
                self._texts[path] = (stamp, _COMMENT.sub("", self._read(path)).strip())
        except OSError:
            return ""
        return self._texts[path][1]

    def _read(self, path: str) -> str:
        if path.startswith(_PROMPTS):
            return Path(path).read_text(encoding="utf-8")
        try:
            # A command may have put a link there.
            with PathPolicy(Path(path).parent, restrict=True).open_file(path) as file:
                return file.read(_READ).decode("utf-8", "replace")
        except ToolError as error:
            log.warning("It is left out of the prompt: %s", error)
            return ""
