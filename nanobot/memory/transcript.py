"""A part of a conversation as it is consolidated: who said what, and what of it may be believed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from nanobot.memory.facts import Evidence, HistoryEntry, message_id, plain_text
from nanobot.memory.grounding import words
from nanobot.memory.secrets import mask_secrets
from nanobot.messages import TextPart
from nanobot.store.records import StoredMessage

_SHOWN = 2_000  # characters of one message that are shown to the model
_SHOWN_RESULT = 300
_READ = 20_000  # characters of one text that are looked at
_QUOTED = 100  # characters of a message in a digest
_SHORT = 80
# What people paste instead of saying it: quoted mail, code, long quotations.
_PASTED = re.compile(
    r"^[>|][^\n]*|```.*?(?:```|\Z)|[\"“„«][^\"”“„«»]{25,}[\"”“»]"
    r"|\b(?:summari[sz]e|translate|proofread|übersetz\w*|fasse?\b[^\n:]{0,40}\bzusammen"
    r"|(?:this|following|forwarded|diese[rs]?|folgende[rs]?) (?:e-?mail|mail|message|page|article|text|letter"
    r"|nachricht|seite|artikel|brief))\b[^\n:]{0,40}:.*"
    r"|^\W*(?:from|von|de|subject|betreff|-+ ?original|-+ ?forwarded|begin forwarded)\b.{0,80}:.*",
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_CONFIRMS = re.compile(
    r"\W*(?:yes|yep|yeah|ok|okay|right|correct|exactly|sure|true|remember|keep that|note that|ja|genau|stimmt"
    r"|richtig|merk|oui|exact|sí|si|claro|sim|da|はい|そう|是|对|好|嗯)(?!\w)",
    re.IGNORECASE,
)
_KEEP = re.compile(
    r"\b(?:remember|keep|note|save|merk|speicher|retiens|recuerda|guarda|ricorda)|覚え|记住|запомни", re.I
)


@dataclass(frozen=True)
class Transcript:
    """Messages of one session, oldest first. Nobody wrote what is in `unattended` turns."""

    session: str
    is_group: bool
    messages: Sequence[StoredMessage]
    unattended: frozenset[int] = frozenset()

    @property
    def last(self) -> int:
        return self.messages[-1].seq

    @cached_property
    def by_seq(self) -> dict[int, StoredMessage]:
        return {entry.seq: entry for entry in self.messages}

    def is_users(self, seq: int) -> bool:
        """Whether a person wrote message `seq`."""
        entry = self.by_seq.get(seq)
        return entry is not None and entry.message.role == "user" and entry.turn_id not in self.unattended

    def as_text(self) -> str:
        """The conversation for the model: numbered, dated, secrets masked, foreign text marked and short."""
        return "\n".join(line for entry in self.messages for line in self._lines(entry))

    def _lines(self, entry: StoredMessage) -> list[str]:
        text, role = entry.message.text, str(entry.message.role)
        if role == "user" and not self.is_users(entry.seq):
            role, text = "untrusted program", text[:_SHOWN_RESULT]
        lines = (
            [f"{role} ({_moment(entry):%Y-%m-%d %H:%M}): {_one_line(text, _SHOWN)}"] if text.strip() else []
        )
        lines += [
            f"untrusted {part.origin}: {_one_line(part.text, _SHOWN_RESULT)}"
            for part in entry.message.parts
            if isinstance(part, TextPart) and part.origin != "author"
        ]
        lines += [
            f"untrusted {part.name}: {_one_line(part.content, _SHOWN_RESULT)}"
            for part in entry.message.tool_results
        ]
        return [f"[{entry.seq}] {line}" for line in lines]

    def said(self, seqs: Sequence[int], *, first_paragraph: bool = False) -> str:
        """The users' own words in these messages, with the answer before them that they confirm, and dates.

        `first_paragraph`: only how a message begins and no confirmations, for what might be pasted.
        """
        found = []
        for seq in filter(self.is_users, seqs):
            entry = self.by_seq[seq]
            own = _own_words(entry.message.text)
            found.append(own.split("\n\n")[0] if first_paragraph else own)
            if not first_paragraph:
                found.append(f"{_moment(entry):%Y-%m-%d %B %A %d}")
                found.append(self._confirmed(seq, own))
        return "\n".join(found)

    def _confirmed(self, seq: int, own: str) -> str:
        """The answer before message `seq`, if that says yes to it; for what was read, thanks are no yes."""
        answer = next((entry for entry in reversed(self.messages) if entry.seq < seq), None)
        confirms = _CONFIRMS.match(own) if len(own) <= _SHORT and "?" not in own else None
        if confirms is None or answer is None or answer.message.role != "assistant":
            return ""
        if answer.turn_id in self._reading and not _KEEP.search(own):
            return ""
        return answer.message.text if words(own[confirms.end() :]) <= self._answers[answer.seq] else ""

    @cached_property
    def users_words(self) -> str:
        return self.said([entry.seq for entry in self.messages])

    @cached_property
    def foreign(self) -> set[str]:
        """The words of tools, of programs, of what users pasted, and of answers made of those."""
        texts = [part.content for entry in self.messages for part in entry.message.tool_results]
        for entry in self.messages:
            if entry.turn_id in self._reading and not self._is_own(entry):
                texts.append(entry.message.all_text)
        return words("\n".join(text[:_READ] for text in texts))

    @cached_property
    def _reading(self) -> set[int]:
        """The turns in which something was read that the users did not say."""
        return {
            entry.turn_id
            for entry in self.messages
            if entry.message.tool_results or (entry.message.role == "user" and not self._is_own(entry))
        }

    def _is_own(self, entry: StoredMessage) -> bool:
        """Whether a user says all of a message."""
        text, own = entry.message.all_text.strip(), entry.message.text.strip()
        return self.is_users(entry.seq) and (not text or text == own == _own_words(own))

    def answered(self, before: int) -> set[str]:
        """The words of answers before this message: somebody who wants them kept says yes to them."""
        return set().union(*(found for seq, found in self._answers.items() if seq < before))

    @cached_property
    def _answers(self) -> dict[int, set[str]]:
        answers = (entry for entry in self.messages if entry.message.role == "assistant")
        return {entry.seq: words(entry.message.text[:_READ]) for entry in answers}

    def day(self, seqs: Sequence[int]) -> str:
        """The ISO date of the last of these messages."""
        return f"{_moment(self.by_seq[max(seqs)]):%Y-%m-%d}"

    def origin(self, seqs: Sequence[int], day: str = "") -> Evidence:
        return Evidence(day, tuple(message_id(self.session, seq) for seq in sorted(seqs)), self.is_group)

    def entry(self, text: str) -> HistoryEntry:
        """`text` as the entry of HISTORY.md that stands for all of these messages."""
        moment = _moment(self.messages[-1])
        origin = self.origin([entry.seq for entry in self.messages], f"{moment:%Y-%m-%d}")
        return HistoryEntry(plain_text(text), origin, f"{moment:%H:%M}")

    def digest(self) -> str:
        """What was asked, without a model: how much, when, and how each message of a user begins."""
        own = [entry for entry in self.messages if self.is_users(entry.seq)]
        first, last = _moment(self.messages[0]), _moment(self.messages[-1])
        text = f"(mechanical) {len(self.messages)} messages, {first:%Y-%m-%d} to {last:%Y-%m-%d}."
        for entry in own:
            said = mask_secrets(plain_text(_own_words(entry.message.text)))
            sentence = re.split(r"(?<=[.!?。!?])\s", said)[0][:_QUOTED]
            text += f" [{entry.seq}] “{sentence}”" if sentence else ""
        return text


def _own_words(text: str) -> str:
    """What somebody says in a message. Of a long one it is the beginning and the end: the rest is pasted."""
    own = _PASTED.sub(" ", text[:_READ]).strip()
    paragraphs = own.split("\n\n")
    return own if len(own) <= _SHOWN else "\n\n".join([paragraphs[0][:_SHOWN], paragraphs[-1][-_SHOWN:]])


def _one_line(text: str, limit: int) -> str:
    line = mask_secrets(plain_text(text[:_READ]))
    return line if len(line) <= limit else f"{line[:limit]} […]"


def _moment(entry: StoredMessage) -> datetime:
    return datetime.fromtimestamp(entry.created_at)
