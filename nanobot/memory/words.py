"""Text as the words search compares: the same function for what is stored and for what is asked. SQLite's
tokenizer does the rest (stemming, accents)."""

from __future__ import annotations

import functools
import re
import unicodedata
from itertools import pairwise

# A run of letters, digits and the marks above or below them.
_RUN = re.compile(r"[^\W_](?:[\w\u0300-\u036f\u0900-\u0dff\u0e00-\u0eff\u1000-\u109f]|['’](?=s\b))*")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Characters that are grammar: hiragana, and the commonest function characters of Chinese.
_UNSPACED_GRAMMAR = re.compile(
    "[\u3040-\u309f的了是我你您他她它们們在有和就不也都很么麼什吗嗎呢吧这這那哪谁誰给給把被]+"
)
_LONGEST = 64  # characters of a word; longer ones are keys and encoded data
_MOST_TEXT = 20_000  # characters of a message that are searchable

_IRREGULAR = """
be am is are was were been being|go went gone goes|have has had|do did done does|say said|make made
get got gotten|see saw seen|come came|take took taken|know knew known|think thought|give gave given
find found|tell told|buy bought|become became|leave left|feel felt|bring brought|begin began begun
keep kept|hold held|write wrote written|stand stood|hear heard|mean meant|meet met|run ran|pay paid
sit sat|speak spoke spoken|lead led|grow grew grown|lose lost|win won|fall fell fallen|send sent
build built|understand understood|draw drew drawn|break broke broken|spend spent|eat ate eaten
drive drove driven|wear wore worn|choose chose chosen|seek sought|throw threw thrown|catch caught
deal dealt|forget forgot forgotten|lay laid|fly flew flown|lie lay lain|sing sang sung|sell sold
child children|person people|man men|woman women|foot feet|tooth teeth|mouse mice|wife wives
"""
_BASE = {
    form: forms.split()[0] for forms in _IRREGULAR.replace("\n", "|").split("|") for form in forms.split()[1:]
}

_GRAMMAR = """
a an the and or but if of in on at to for from by with about as into over after before than then so be am
is are was were been being have has had having do does did doing done i im ive me my mine you your yours
he him his she her hers it its they them their theirs we us our ours this that these those what which who
whom whose when where why how will would can could should shall may might must not no nor only own same
too very just don doesn didn isn wasn now here there up down out off again further once all any both each
few more most other some such also get got let hey hi hello oh yeah yes ok okay really lot lots much many
kind type something anything thing things please thanks thank welcome good great nice sure bye last ago
tell know said say remember der die das ein eine einen einem einer eines und oder aber wenn von auf zu zum
zur für mit bei als aus nach vor ist sind war waren bin bist wird werden wurde hat haben hatte habe ich
mich mir mein meine meinen meiner du dich dir dein deine er ihn ihm sein sie ihr ihre es wir uns unser
welche welcher welches wer wem wen wann wo warum wie nicht kein keine nur auch noch schon sehr den dem des
da dann hier bitte danke hallo ja nein le la les un une et ou est sont je tu il elle nous vous que qui
quoi quand où dans sur pour avec mon ma mes el los las y son yo mi quien cuando donde en por para con
"""
_STOP = frozenset(_GRAMMAR.split())


def words(text: str) -> list[str]:
    """The words of `text` in order, folded, and pairs of characters where there are no spaces.
    An identifier gives itself and its parts: `parse_url` gives `parseurl`, `parse` and `url`."""
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text[:_MOST_TEXT])):
        # Every second piece has no spaces between its words: characters, as a question may be one, and pairs.
        for place, piece in enumerate([run] if run.isascii() else _unspaced().split(run)):
            found += [*piece, *map("".join, pairwise(piece))] if place % 2 else _folded(piece)
    return found


def content_words(text: str) -> list[str]:
    """The words of a question that say what it is about, each once; all of them when none does."""
    all_words = list(dict.fromkeys(words(text)))
    return [word for word in all_words if says_something(word)] or all_words


def says_something(word: str) -> bool:
    """Whether a word is more than grammar or politeness."""
    if word.isascii():
        return len(word) > 1 and word not in _STOP
    return word not in _STOP and not _UNSPACED_GRAMMAR.fullmatch(word)


@functools.cache
def _unspaced() -> re.Pattern[str]:
    """Scripts without spaces: Thai, Lao, Khmer; Japanese, Chinese, Korean. It takes long to compile."""
    return re.compile(
        "([\u0e00-\u0eff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
        "\U00020000-\U0003ffff]+)"
    )


@functools.lru_cache(maxsize=50_000)
def _folded(piece: str) -> tuple[str, ...]:
    plain = re.sub(r"['’]s$", "", piece)
    folded = plain.casefold()
    if folded.isalpha() and (plain.islower() or plain[1:].islower() or plain.isupper()):
        return (_BASE.get(folded, folded)[:_LONGEST],)
    halves = plain.split("_")
    parts = [part for half in halves for part in (_CAMEL.findall(half) if half.isascii() else [half]) if part]
    whole = "".join(char for char in folded if char not in "_'’")[:_LONGEST]
    if len(parts) < 2 or len(whole) == _LONGEST:
        return (whole,) if whole else ()
    return (whole, *(part.casefold() for part in parts))
