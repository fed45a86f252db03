"""A part of a conversation as it is consolidated: the words of its people, and what is not theirs.

Whose words they are is recorded with each part, result and turn. The model is shown nothing of what others
wrote, nor answers given after reading it. What turns up of it all the same is found out by comparing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise

from nanobot.memory.facts import Evidence, HistoryEntry, message_id, plain_text
from nanobot.memory.words import says_something, words
from nanobot.messages import ContextPart, ImagePart, Message, TextPart, ToolResult
from nanobot.store.records import StoredMessage

_SHOWN = 2_000  # characters of one message that are shown to the model
_STEM = 4
_READ = 20_000  # characters of one text that are looked at
_QUOTED = 100  # characters of a message in a digest
# What people paste: quoted lines, code, long quotations.
_PASTED = re.compile(
    r"^[ ]*[>|][^\n]*|```.*?(?:```|\Z)"
    r"|[\"“„«「『](?:[^\"“”„«»「」『』]{25,}|[\u3040-\u9fff、。]{8,})[\"“”»」』]",
    re.MULTILINE | re.DOTALL,
)
_LABEL, _NOTE = 12, 120  # letters of a note and of the label before it
# What is no note: more than one line, with a second label, a quotation, a link or an address.
_NO_NOTE = re.compile(r"\n|[:：](?=\s|\Z)|：|[\"“”„«»「」『』<>|`@]|//|\bwww\.|(?<!\w)['‘]")
_HAN = re.compile("[\u3400-\u9fff]")  # one says as much as four letters
_COLON = re.compile(r"[:：](?=\s|\Z)|：")
# Addresses, numbers, codes: nobody writes these by chance as somebody else has written them.
_EXACT = re.compile(r"[a-z0-9]+(?:[.@/:+'’_-]+[a-z0-9]+)*")
_ADDRESS = re.compile(r"@|\w\.[^\W\d]{2}")
_LINK = re.compile(r"@|//|^www\.")
_DIGIT = re.compile(r"\d")
_NAME = re.compile(r"(?<=\S )[^\W\d_a-z]\w+")  # with a capital, inside a sentence
_GROUPS = re.compile(r"(?<=\d)[.,'’ ](?=\d{3}(?!\d))")
_DATE = re.compile(r"(?:19|20)\d\d(?:-\d\d){0,2}|\d{1,2}:\d\d")

# Keys, tokens and passwords: they are never remembered.
_MASK = "[secret]"
_KEYS = re.compile(
    r"""
      -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]*-----|\Z)
    | \b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,}                      # OpenAI, Anthropic, OpenRouter, Stripe
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|gsk_|xai-|npm_|pypi-|ya29\.|tvly-)[A-Za-z0-9_.-]{16,}
    | \bxox[a-z]-[A-Za-z0-9-]{10,}                              # Slack
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                             # AWS
    | \bAIza[A-Za-z0-9_-]{30,}                                  # Google
    | \b\d{8,10}:[A-Za-z0-9_-]{35}\b                            # Telegram bot
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*   # JSON web token
    | \b(?=\w{32})(?=(?:[A-Za-z_]*\d){6})[A-Za-z0-9_]{32,}={0,2}    # long and random
    | (?<=://)[^\s/:@]+:[^\s/@]+(?=@)                           # a login in an address
    """,
    re.VERBOSE | re.DOTALL,
)
_NAMED = re.compile(
    r"""
    \b(?:api[ _-]?key|secret(?:[ _-]key)?|access[ _-]?token|token|password|passwor[dt]|passphrase|passwd|pwd
       |kennwort|mot[ ]de[ ]passe|contraseña|pin(?:[ -]?code)?|cvv|seed[ ]phrase)
    (?:[ ](?:for|of|to|für|von|de)[ ](?:\S+[ ]){0,3}?\S+?)?
    \s*(?:\bis\b|\bist\b|\best\b|\bes\b|[:=])\s*
    ["'`]?(?=\S*\d|\S*[^\w\s.,;:!?)'"])\S{4,}
    | (?:密码|密碼|パスワード)\s*(?:是|は|[::=])?\s*[!-~]{4,}
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Transcript:
    """Messages of one session, oldest first. Nobody wrote what is in `unattended` turns. `read_before`:
    answers may repeat what others wrote from the first one on; of the others it is known."""

    session: str
    is_group: bool
    messages: Sequence[StoredMessage]
    unattended: frozenset[int] = frozenset()
    read_before: bool = True

    @property
    def group(self) -> str:
        """The group whose facts come of it, or "" for the owner's own."""
        return self.session if self.is_group else ""

    @cached_property
    def by_seq(self) -> dict[int, StoredMessage]:
        return {entry.seq: entry for entry in self.messages}

    def is_users(self, seq: int) -> bool:
        """Whether a person wrote message `seq`."""
        entry = self.by_seq.get(seq)
        return entry is not None and entry.message.role == "user" and entry.turn_id not in self.unattended

    def is_own(self, seq: int) -> bool:
        """Whether a person says something in message `seq`, or it is an answer made of what people said."""
        message = self.by_seq[seq].message
        if message.role == "assistant":
            return seq < self._read_from
        return self.is_users(seq) and bool(message.text.strip())

    @cached_property
    def _read_from(self) -> int:
        """From this message on answers may repeat what others wrote."""
        if self.read_before:
            return 0
        read = (entry.seq for entry in self.messages if any(self._theirs(entry)))
        return next(read, self.messages[-1].seq + 1)

    def _theirs(self, entry: StoredMessage) -> Iterator[str]:
        if entry.message.role == "user" and entry.turn_id in self.unattended:
            yield entry.message.text
        yield from others_texts(entry.message)

    def as_text(self) -> str:
        """The conversation for the model: numbered, dated, secrets masked, without the words of others."""
        return "\n".join(f"[{entry.seq}] {line}" for entry in self.messages if (line := self._line(entry)))

    def _line(self, entry: StoredMessage) -> str:
        message, role = entry.message, str(entry.message.role)
        text, notes = (
            mask_secrets(plain_text(message.text[:_READ])),
            [f"(used {call.name})" for call in message.tool_calls],
        )
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} […]"
        if role == "user" and not (text and self.is_users(entry.seq)):
            role, text = "others", "(not shown)"
        elif role == "user" and any(isinstance(p, TextPart) and p.origin != "author" for p in message.parts):
            notes.append("(with words of others, not shown)")
        elif role == "assistant" and entry.seq >= self._read_from and text:
            text = "(not shown)"
        said = " ".join(filter(None, [text, *notes]))
        return f"{role} ({_moment(entry):%Y-%m-%d %H:%M}): {said}" if said else ""

    def own(self, seqs: Iterable[int]) -> str:
        """What people say themselves in these messages, without what they paste."""
        return "\n".join(
            _own_and_pasted(self.by_seq[seq].message.text)[0] for seq in seqs if self.is_users(seq)
        )

    @cached_property
    def users_words(self) -> str:
        return self.own(self.by_seq)

    def is_others(self, text: str, seqs: Sequence[int], known: str = "") -> bool:
        """Whether `text`, which is said to rest on these messages, has something only others wrote.

        That is an address, a number or a code, any word of what one of the messages forwards, or two words
        in a row when they are names or when most words are others'. What people or `known` say is not.
        """
        users_stems, their_codes, their_stems, their_pairs = self._compared
        said, shown = _codes(f"{self.users_words}\n{known}"), _codes(self.own(seqs))
        if any(code in their_codes or shown or _LINK.search(code) for code in _codes(text) - said):
            return True
        own, stems = users_stems | set(_stems(known)), _stems(text)
        parts = [
            part for seq in seqs for part in self.by_seq[seq].message.parts if isinstance(part, TextPart)
        ]
        forwarded = "\n".join(part.text for part in parts if part.origin == "forward")
        if set(_stems(forwarded)).intersection(stems) - own:
            return True
        pairs = [pair for pair in pairwise(stems) if pair in their_pairs and own.isdisjoint(pair)]
        names = set(_stems(" ".join(_NAME.findall(text))))
        most = 2 * len(their_stems.intersection(stems) - own) > len(set(stems))
        return bool(pairs) and (most or any(map(names.issuperset, pairs)))

    @cached_property
    def others_said(self) -> list[str]:
        """What others wrote, what people may have pasted of it, and the answers that may repeat it."""
        found = [text for entry in self.messages for text in self._theirs(entry)]
        for entry in self.messages:
            if self.is_users(entry.seq):
                found.append(_own_and_pasted(entry.message.text)[1])
            elif entry.message.role == "assistant" and entry.seq >= self._read_from:
                found.append(entry.message.text)
        return [text[:_READ] for text in found if text]

    @cached_property
    def _compared(self) -> tuple[set[str], set[str], set[str], set[tuple[str, str]]]:
        codes, stems = map(_codes, self.others_said), [_stems(text) for text in self.others_said]
        pairs = {pair for text in stems for pair in pairwise(text)}
        return set(_stems(self.users_words)), set().union(*codes), set().union(*stems), pairs

    def origin(self, seqs: Sequence[int]) -> Evidence:
        """These messages as evidence, of the day of the last one."""
        day = f"{_moment(self.by_seq[max(seqs)]):%Y-%m-%d}"
        return Evidence(day, tuple(message_id(self.session, seq) for seq in sorted(seqs)), self.is_group)

    def entry(self, text: str) -> HistoryEntry:
        """`text` as the entry of HISTORY.md that stands for all of these messages."""
        time = f"{_moment(self.messages[-1]):%H:%M}"
        return HistoryEntry(plain_text(text), self.origin([*self.by_seq]), time)

    def digest(self) -> str:
        """What was asked, without a model: how much, when, and how each message of a user begins."""
        first, last = _moment(self.messages[0]), _moment(self.messages[-1])
        text = f"(mechanical) {len(self.messages)} messages, {first:%Y-%m-%d} to {last:%Y-%m-%d}."
        for seq in filter(self.is_users, self.by_seq):
            said = mask_secrets(plain_text(self.own([seq])))
            sentence = re.split(r"(?<=[.!?。!?])\s", said)[0][:_QUOTED]
            text += f" [{seq}] “{sentence}”" if sentence else ""
        return text


def others_texts(message: Message) -> Iterator[str]:
    """The texts in a message that whoever sent it has not written."""
    for part in message.parts:
        match part:
            case TextPart(text=text, origin=origin) if origin != "author":
                yield text
            case ContextPart(text=text, recalled=True) | ToolResult(content=text):
                yield text
            case ImagePart():
                yield "[image]"  # the model reads what is written on it


def _own_and_pasted(text: str) -> tuple[str, str]:
    """What somebody says in a message, and what somebody else may have written of it: quotations, what is
    behind a colon and no note such as `Remember: I like tea`, and the rest of a long text."""
    text = text[:_READ]
    pasted = _PASTED.findall(text)
    own, *rest = _COLON.split(_PASTED.sub(" ", text).strip(), maxsplit=1)
    short = rest and len(_HAN.sub("____", own.strip())) <= _LABEL and len(rest[0]) <= _NOTE
    if short and not pasted and not _NO_NOTE.search(rest[0]):
        return text, ""
    if len(own) > _SHOWN:
        own, _, later = own.partition("\n\n")
        rest.append(later)
    return own[:_SHOWN], "\n".join([*pasted, *rest])


def _codes(text: str) -> set[str]:
    """The addresses, numbers and codes in `text` without the points in long numbers; dates are reckoned."""
    tokens = _EXACT.findall(_GROUPS.sub("", text.casefold()))
    return {
        token
        for token in tokens
        if _ADDRESS.search(token) or (len(token) > 3 and _DIGIT.search(token) and not _DATE.fullmatch(token))
    }


def _stems(text: str) -> list[str]:
    """The words of `text` that say something, by their beginnings: languages change the ends."""
    return [word[:_STEM] for word in words(text) if says_something(word)]


def _moment(entry: StoredMessage) -> datetime:
    return datetime.fromtimestamp(entry.created_at)


def has_secret(text: str) -> bool:
    """Whether `text` looks as if it held a key, a token or a password."""
    return bool(_KEYS.search(text) or _NAMED.search(text))


def mask_secrets(text: str) -> str:
    """`text` with `[secret]` for everything that looks like one."""
    return _NAMED.sub(_MASK, _KEYS.sub(_MASK, text))
