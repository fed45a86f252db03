"""A model's reply becomes a plan for the memory files, or is refused.

The reply is one JSON object: `{"history": "…", "operations": [{"op": "add" | "supersede" | "expire",
"id": "…", "text": "…", "evidence": [seq, …]}]}`. One bad operation is left out; a bad reply raises
ProviderError.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nanobot.errors import ProviderError
from nanobot.memory.facts import Fact, fact_id, format_entry, format_fact, parse_facts, plain_text, superseded
from nanobot.memory.grounding import addresses, is_order, share_said, unsaid_details, words
from nanobot.memory.secrets import has_secret, mask_secrets
from nanobot.memory.transcript import Transcript

log = logging.getLogger(__name__)

_LONGEST_FACT = 300
_LONGEST_HISTORY = 2_000
_MOST_OPERATIONS = 30
_MOST_STARTS = 20  # places at which the object is looked for
_MOST_SHRINK = 0.3  # of the facts that are not expired by name
_FREE_EXPIRIES = 3  # that many may always go, beyond that 30 % of all
_SAID = 0.5  # which part of the words must have been said where somebody else could have put in the others
_ORDERED = 0.8  # and of a rule's, when what was said does not sound like one
_ECHO = 40  # characters of our own instructions that no honest reply repeats
_LABEL = re.compile(r"\[\d+\] (?:user|assistant|untrusted)\b")


@dataclass(frozen=True, slots=True)
class Edit:
    """One line of MEMORY.md: the fact `old` (an id or "") gives way to the line `new` (or "").

    `group` is the group whose facts these are, or "": others may have a fact with the same words.
    """

    old: str
    new: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a consolidation changes: lines for HISTORY.md and edits of MEMORY.md."""

    history: tuple[str, ...]
    edits: tuple[Edit, ...] = ()

    def to_json(self) -> str:
        edits = [[edit.old, edit.new, edit.group] for edit in self.edits]
        return json.dumps({"history": self.history, "edits": edits}, ensure_ascii=False)

    @staticmethod
    def from_json(body: str) -> Plan:
        data = json.loads(body)
        return Plan(tuple(data["history"]), tuple(Edit(*edit) for edit in data["edits"]))


class _Refused(Exception):
    """Why an operation is left out."""


def plan_reply(reply: str, instructions: str, transcript: Transcript, facts: Sequence[Fact]) -> Plan:
    """What a reply changes, given the facts as they are now. Raises ProviderError when it is no use."""
    data = _parse(reply)
    history = _history(data.get("history"), instructions, transcript)
    operations = data.get("operations")
    if not isinstance(operations, list) or len(operations) > _MOST_OPERATIONS:
        raise _bad(f"its operations are no list of at most {_MOST_OPERATIONS}")
    lines = [format_entry(transcript.entry(history))]
    edits: list[Edit] = []
    own = [f for f in facts if f.origin.visible_in(transcript.session, is_group=transcript.is_group)]
    checker = _Checker(transcript, {fact.id: fact for fact in own}, instructions)
    for operation in operations:
        try:
            edit, past = checker.check(operation)
        except _Refused as why:
            log.info("An operation on %s is left out: %s", transcript.session, why)
            continue
        edits.append(edit)
        lines += past
    _check_shrink(own, edits)
    return Plan(tuple(lines), tuple(edits))


def _bad(reason: str) -> ProviderError:
    return ProviderError(
        f"The model's summary is not used: {reason}. It is tried again; memory.model names another model."
    )


def _parse(reply: str) -> dict[str, Any]:
    """The JSON object in a reply, in a fence or between words."""
    starts = [found.start() for found in re.finditer("{", reply)][:_MOST_STARTS]
    if not starts:
        raise _bad("it is no JSON object" if reply.strip() else "it is empty")
    for start in starts:
        with contextlib.suppress(ValueError, RecursionError):
            data, _ = json.JSONDecoder(strict=False).raw_decode(reply, start)
            if isinstance(data, dict) and "history" in data:
                return data
    raise _bad("its JSON is broken or cut off")


def _history(value: object, instructions: str, transcript: Transcript) -> str:
    """The history entry without what could steer a later reader."""
    if not isinstance(value, str) or len(value) > _LONGEST_HISTORY:
        raise _bad(f"its history is no text of at most {_LONGEST_HISTORY:,} characters")
    if _is_echo(value, instructions):
        raise _bad("it repeats what it was given")
    said = transcript.users_words
    spoken = words(said)
    sentences = _sentences(plain_text(mask_secrets(value)))
    if transcript.foreign:  # which may have smuggled in an order
        sentences = [one for one in sentences if not is_order(one) or share_said(one, spoken) >= _SAID]
    text = " ".join(sentences)
    for address in addresses(text):
        if address.casefold() not in said.casefold():
            text = text.replace(address, "[address]")
    if sum(char.isalnum() for char in text) < 3:
        raise _bad("its history says nothing")
    return text


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?;])\s+|(?<=[。!?])", text)


def _is_echo(text: str, instructions: str) -> bool:
    if _LABEL.search(text):
        return True
    pieces = {instructions[i : i + _ECHO] for i in range(len(instructions) - _ECHO)}
    return any(text[i : i + _ECHO] in pieces for i in range(len(text) - _ECHO + 1))


class _Checker:
    """Checks the operations of one reply, one after the other."""

    def __init__(self, transcript: Transcript, known: dict[str, Fact], instructions: str) -> None:
        self._transcript = transcript
        self._group = transcript.session if transcript.is_group else ""
        self._known = known
        self._new: set[str] = set()
        self._instructions = instructions
        self._expiries = max(_FREE_EXPIRIES, int(_MOST_SHRINK * len(known)))

    def check(self, operation: object) -> tuple[Edit, list[str]]:
        """The edit and the lines for HISTORY.md. Raises _Refused."""
        if not isinstance(operation, dict):
            raise _Refused("it is no object")
        evidence = self._evidence(operation.get("evidence"))
        match operation.get("op"):
            case "add":
                return Edit("", self._new_line(operation.get("text"), evidence), self._group), []
            case "supersede":
                old = self._old(operation.get("id"))
                line = self._new_line(operation.get("text"), evidence, old.text)
                return self._replace(old, line, evidence, plain_text(str(operation["text"])))
            case "expire":
                old = self._old(operation.get("id"))
                self._expiries -= 1
                if self._expiries < 0:
                    raise _Refused("too many facts would expire")
                said = words(self._transcript.said(evidence))
                if self._transcript.foreign and not share_said(old.text, said):
                    raise _Refused(f"nobody spoke of {old.id}")
                return self._replace(old, "", evidence, "")
            case kind:
                raise _Refused(f"there is no operation {kind!r}")

    def _replace(self, old: Fact, line: str, evidence: Sequence[int], new: str) -> tuple[Edit, list[str]]:
        del self._known[old.id]
        past = superseded(old, new, self._transcript.day(evidence))
        return Edit(old.id, line, self._group), [format_entry(past)]

    def _evidence(self, value: object) -> list[int]:
        if not isinstance(value, list) or not value:
            raise _Refused("it has no evidence")
        if any(type(seq) is not int or seq not in self._transcript.by_seq for seq in value):
            raise _Refused("its evidence does not exist")
        if not any(self._transcript.is_users(seq) for seq in value):
            raise _Refused("no user said it")
        return sorted(set(value))

    def _old(self, value: object) -> Fact:
        fact = self._known.get(value) if isinstance(value, str) else None
        if fact is None:
            raise _Refused(f"there is no fact {value!r}")
        return fact

    def _new_line(self, value: object, evidence: Sequence[int], replaced: str = "") -> str:
        """The line of a new fact. Raises _Refused."""
        if not isinstance(value, str) or not any(char.isalnum() for char in plain_text(value)):
            raise _Refused("it has no text")
        text = plain_text(value)
        for problem in self._problems(text, evidence, replaced):
            raise _Refused(problem)
        self._new.add(fact_id(text))
        return format_fact(Fact(text, self._transcript.origin(evidence, self._transcript.day(evidence))))

    def _problems(self, text: str, evidence: Sequence[int], replaced: str) -> Iterator[str]:
        transcript = self._transcript
        said = f"{transcript.said(evidence)}\n{replaced}"
        if len(text) > _LONGEST_FACT:
            yield "it is too long"
        if fact_id(text) in self._known or fact_id(text) in self._new:
            yield "it is known"
        if has_secret(text):
            yield "it holds a secret"
        if _is_echo(text, self._instructions):
            yield "it repeats what it was given"
        others_before = transcript.foreign | transcript.answered(max(evidence))
        others = transcript.foreign | transcript.answered(
            transcript.last + 1
        )  # may tell of what was read long ago
        unsaid = words(text) - words(said)
        share = share_said(text, words(said))
        if share < _SAID and (unsaid & others_before or (transcript.foreign and not share)):
            yield "the messages it names do not say so"
        if details := unsaid_details(text, said, others):
            yield f"nobody said {details[0][:40]!r}"
        begins = transcript.said(evidence, first_paragraph=True)
        enough = _SAID if is_order(begins) else _ORDERED
        if is_order(text) and (share_said(text, words(begins)) < enough or unsaid & others):
            yield "it gives an order that no user gave"


def _check_shrink(facts: Sequence[Fact], edits: Sequence[Edit]) -> None:
    """Raises ProviderError when facts that stay would lose too much of their text.

    One fact may always get shorter: in a small memory it is more than its share.
    """
    sizes = {fact.id: len(fact.text) for fact in facts}
    expired = sum(sizes.get(edit.old, 0) for edit in edits if not edit.new)
    before = sum(sizes.values()) - expired
    replaced = [sizes[edit.old] for edit in edits if edit.new and edit.old in sizes]
    after = before - sum(replaced) + sum(len(fact.text) for edit in edits for fact in parse_facts(edit.new))
    if len(replaced) > 1 and after < before * (1 - _MOST_SHRINK):
        raise _bad("it would drop more than 30 % of the facts")
