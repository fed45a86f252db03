"""A model's reply becomes a plan for the memory files, or is refused (ProviderError). It is one JSON object:
`{"history": "…", "operations": [{"op": "add" | "supersede" | "expire", "id": "…", "text": "…",
"evidence": [seq, …]}]}`. A bad operation is left out alone."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from nanobot.errors import ProviderError
from nanobot.memory.facts import Fact, format_entry, format_fact, parse_facts, plain_text, superseded
from nanobot.memory.transcript import Transcript, has_secret, mask_secrets
from nanobot.memory.words import content_words, words

log = logging.getLogger(__name__)

_LONGEST_FACT = 300
_LONGEST_HISTORY = 2_000
_MOST_OPERATIONS = 30
_MOST_STARTS = 20  # places at which the object is looked for
_MOST_SHRINK = 0.3  # of the facts that are not expired by name
_FREE_EXPIRIES = 3  # that many may always go, beyond that 30 % of all
_ECHO = 40  # characters of our own instructions that no honest reply repeats
_LABEL = re.compile(r"\[\d+\] (?:user|assistant|others)\b")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[。!?])")


class Edit(NamedTuple):
    """One line of MEMORY.md: the fact `old` (an id or "") gives way to the line `new` (or ""). `group` is
    the group whose facts these are, or "": others may have a fact with the same words."""

    old: str
    new: str
    group: str = ""


class Plan(NamedTuple):
    """What a consolidation changes: lines for HISTORY.md, edits of MEMORY.md, lines for UNCONFIRMED.md."""

    history: tuple[str, ...]
    edits: tuple[Edit, ...] = ()
    unconfirmed: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(self._asdict(), ensure_ascii=False)

    @staticmethod
    def from_json(body: str) -> Plan:
        data = json.loads(body)
        edits = tuple(Edit(*edit) for edit in data["edits"])
        return Plan(tuple(data["history"]), edits, tuple(data.get("unconfirmed", ())))


class _Refused(Exception):
    """Why an operation is left out."""


def plan_reply(reply: str, instructions: str, transcript: Transcript, facts: Sequence[Fact]) -> Plan:
    """What a reply changes, given the facts as they are now. Raises ProviderError when it is no use."""
    data = _parse(reply)
    history = _history(data.get("history"), instructions, transcript)
    operations = data.get("operations")
    if not isinstance(operations, list) or len(operations) > _MOST_OPERATIONS:
        raise _bad(f"its operations are no list of at most {_MOST_OPERATIONS}")
    own = [fact for fact in facts if fact.origin.group == transcript.group]
    checker = _Checker(transcript, own, instructions)
    for operation in operations:
        try:
            checker.check(operation)
        except _Refused as why:
            log.info("An operation on %s is left out: %s", transcript.session, why)
    _check_shrink(own, checker.edits)
    lines = [format_entry(transcript.entry(history)), *checker.past]
    return Plan(tuple(lines), tuple(checker.edits), tuple(checker.unconfirmed))


def _bad(reason: str) -> ProviderError:
    return ProviderError(
        f"The model's summary is not used: {reason}. It is tried again; memory.model names another model."
    )


def _parse(reply: str) -> dict[str, Any]:
    for found in itertools.islice(re.finditer("{", reply), _MOST_STARTS):
        with contextlib.suppress(ValueError, RecursionError):
            data, _ = json.JSONDecoder(strict=False).raw_decode(reply, found.start())
            if isinstance(data, dict) and "history" in data:
                return data
    raise _bad("it is no JSON object, or cut off")


def _history(value: object, instructions: str, transcript: Transcript) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_HISTORY:
        raise _bad(f"its history is no text of at most {_LONGEST_HISTORY:,} characters")
    if _is_echo(value, instructions):
        raise _bad("it repeats what it was given")
    sentences = _SENTENCE_END.split(plain_text(mask_secrets(value)))
    text = " ".join(one for one in sentences if not transcript.is_others(one, ()))
    if sum(char.isalnum() for char in text) < 3:
        raise _bad("its history says nothing")
    return text


def _is_echo(text: str, instructions: str) -> bool:
    if _LABEL.search(text):
        return True
    pieces = {instructions[i : i + _ECHO] for i in range(len(instructions) - _ECHO)}
    return any(text[i : i + _ECHO] in pieces for i in range(len(text) - _ECHO + 1))


class _Checker:
    def __init__(self, transcript: Transcript, facts: Sequence[Fact], instructions: str) -> None:
        self.edits: list[Edit] = []
        self.past: list[str] = []
        self.unconfirmed: list[str] = []
        self._transcript = transcript
        self._known = {fact.id: fact for fact in facts}
        self._ids = set(self._known)
        self._instructions = instructions
        self._expiries = max(_FREE_EXPIRIES, int(_MOST_SHRINK * len(self._known)))

    def check(self, operation: object) -> None:
        asked = operation if isinstance(operation, dict) else {}
        kind, evidence, text = asked.get("op"), self._evidence(asked.get("evidence")), asked.get("text")
        old = self._known.get(str(asked.get("id"))) if kind in ("supersede", "expire") else None
        if old is None and kind != "add":
            raise _Refused("it adds nothing, and there is no such fact")
        if old and kind == "expire":
            self._expire(old, evidence)
        elif not self._add(self._text(text), evidence, old):
            return
        if old:
            del self._known[old.id]
            new, day = str(text) if kind == "supersede" else "", self._transcript.origin(evidence).day
            self.past.append(format_entry(superseded(old, new, day)))

    def _add(self, text: str, evidence: Sequence[int], old: Fact | None) -> bool:
        """False: what has not the owner's word waits for it, and takes the place of nothing."""
        transcript = self._transcript
        fact = Fact(text, transcript.origin(evidence))
        if fact.id in self._ids:
            raise _Refused("it is known")
        self._ids.add(fact.id)
        own = all(map(transcript.is_own, evidence))
        if not own or transcript.is_others(text, evidence, old.text if old else ""):
            self.unconfirmed.append(format_fact(fact))
            return False
        self.edits.append(Edit(old.id if old else "", format_fact(fact), transcript.group))
        return True

    def _expire(self, old: Fact, evidence: Sequence[int]) -> None:
        transcript = self._transcript
        self._expiries -= 1
        if self._expiries < 0:
            raise _Refused("too many facts would expire")
        spoken = set(content_words(old.text)) & set(words(transcript.own(evidence)))
        if (transcript.others_said and not spoken) or not all(map(transcript.is_own, evidence)):
            raise _Refused(f"nobody spoke of {old.id}")
        self.edits.append(Edit(old.id, "", transcript.group))

    def _evidence(self, value: object) -> list[int]:
        known = self._transcript.by_seq
        if not isinstance(value, list) or any(type(seq) is not int or seq not in known for seq in value):
            raise _Refused("its evidence is no list of messages of this conversation")
        if not any(map(self._transcript.is_users, value)):
            raise _Refused("no user said it")
        return sorted(set(value))

    def _text(self, value: object) -> str:
        text = plain_text(value) if isinstance(value, str) else ""
        if not any(char.isalnum() for char in text) or len(text) > _LONGEST_FACT:
            raise _Refused("it has no text, or too much")
        if has_secret(text) or _is_echo(text, self._instructions):
            raise _Refused("it holds a secret, or repeats what it was given")
        return text


def _check_shrink(facts: Sequence[Fact], edits: Sequence[Edit]) -> None:
    """Raises ProviderError when facts that stay would lose too much of their text; a single one may."""
    sizes = {fact.id: len(fact.text) for fact in facts}
    staying = sum(sizes.values()) - sum(sizes.get(edit.old, 0) for edit in edits if not edit.new)
    replaced = [sizes[edit.old] for edit in edits if edit.new and edit.old]
    new = sum(len(fact.text) for edit in edits for fact in parse_facts(edit.new))
    if len(replaced) > 1 and new - sum(replaced) < -_MOST_SHRINK * staying:
        raise _bad("it would drop more than 30 % of the facts")
