"""Does a sentence rest on what somebody said? Judged by its words, which no text can argue with."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from functools import cache
from pathlib import Path

# A word, or something exact: an address, a number, a path, a code.
_TOKEN = re.compile(r"[^\W_]+(?:[.@/:+'’_-]+[^\W_]+)*")
_EXACT = re.compile(r"[\d@/]|\w\.\w")
_CERTAIN = re.compile(r"@|\d{4}|\w\.\w\w")  # no paraphrase writes these otherwise than they were said
_DATE = re.compile(r"(?:19|20)\d\d(?:-\d\d){0,2}")  # what "tomorrow" becomes
_WORD_ENDS = re.compile(r"[\W_]+|(?<=\d)(?=[^\W\d])|(?<=[^\W\d])(?=\d)")
_MARKS = re.compile("[\u0300-\u036f]")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0eff]+")  # written without spaces
_STEM = 4
_ORDER = re.compile(
    r"""\b(?:always|never|ignore|disregard|override|from[ ]now[ ]on|in[ ](?:the[ ])?future|must|should
    |whenever|make[ ]sure|be[ ]sure|remember[ ]to|do[ ]not|don['’]t|instructions?|system[ ]prompt|send|forward
    |upload|transfer|wire|pay|delete|erase|execute|run|install|download|reveal|share|post|publish|bcc
    |allowed|trusted?|authori[sz]ed?|approved?|permission|admin|immer|niemals|nie|ab[ ]sofort|ignoriere
    |sende|schicke|leite|lösche|toujours|jamais|siempre|nunca)\b|总是|永远|始终|忽略|必须|いつも|常に|必ず|無視""",
    re.VERBOSE | re.IGNORECASE,
)
_COMMAND = re.compile(
    r"`|\$\(|\|\s*(?:ba|z)?sh\b|\b(?:rm|curl|wget|sudo|chmod|eval|powershell)\s+\S", re.IGNORECASE
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+|\bwww\.\S+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)


def is_order(text: str) -> bool:
    """Whether `text` could steer an assistant that reads it: a rule or a command."""
    return bool(_ORDER.search(text) or _COMMAND.search(text))


def addresses(text: str) -> list[str]:
    """The web and mail addresses in `text`."""
    return [found.rstrip(".,;:!?)]}'\"") for found in _ADDRESS.findall(text)]


@cache
def _common_words() -> frozenset[str]:
    """What a summary adds by itself; it says nothing that could be wrong."""
    return frozenset((Path(__file__).parent / "prompts" / "common_words.txt").read_text("utf-8").split())


def without_accents(text: str) -> str:
    """`text` in small letters, "á" as "a"."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFKD", text.casefold())))


def words(text: str) -> set[str]:
    """What `text` is about: stems of its words, pairs of characters where there are no spaces."""
    common, found = _common_words(), set[str]()
    for token in _TOKEN.findall(without_accents(text)):
        for run in _WIDE.findall(token):
            found.update(run[i : i + 2] for i in range(len(run) - 1))
            found.update(run if len(run) == 1 else ())
        for word in _WORD_ENDS.split(_WIDE.sub(" ", token)):
            if word not in common and (len(word) > 1 or not word.isalpha()):
                found.add(word.lstrip("0") if word.isdigit() else word[:_STEM].rstrip("s"))
    found.discard("")
    return found


def share_said(text: str, said: Set[str]) -> float:
    """Which part of the words of `text` is among the words `said`, 0 to 1."""
    wanted = words(text)
    return len(wanted & said) / len(wanted) if wanted else 0.0


def unsaid_details(text: str, said: str, foreign: Set[str]) -> list[str]:
    """What must have been said and was not: codes and addresses, numbers and names among `foreign` words."""
    said, said_words = said.casefold(), words(said)
    missing = []
    for place, token in enumerate(_TOKEN.findall(text)):
        if _EXACT.search(token):
            exact = token.casefold()
            if exact in said or words(exact) <= said_words or _DATE.fullmatch(exact):
                continue
            if _CERTAIN.search(exact) or words(exact) & (foreign - said_words):
                missing.append(token)
        elif place and token[0].isupper() and words(token) & (foreign - said_words):
            missing.append(token)
    return missing
