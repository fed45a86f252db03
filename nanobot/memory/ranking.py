"""Which messages and facts answer a question best: choosing terms, scoring, fusing.

The weights were tuned on conversations that are not part of the project (benchmarks/README.md).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from sqlite3 import Connection
from typing import Literal

from nanobot.memory import search_rows as rows
from nanobot.memory.dates import with_days
from nanobot.memory.facts import message_id, parse_facts, parse_history, split_message_id
from nanobot.memory.search_rows import FILES, FoundLine, FoundTurn, SearchScope
from nanobot.memory.words import content_words, words

FACTS_FILE = "MEMORY.md"
HISTORY_FILE = "HISTORY.md"

_TURNS = 200  # candidates that are scored
_LINES = 60
_WEIGHED = 40  # candidates before a turn, which is not to wait
_MOST_TERMS = 32
_SMALL = 1_000  # rows; a word says no more in a smaller memory than in one of that size
_SHORT_WORD = 4  # characters; parts of a compound are longer
_MOST_ROWS = 15_000  # rows that the terms may match together: what a search costs at most
_MOST_HOLDERS = 500  # of a word that says what something is about
_RARE = 6  # rows; a word says no more when fewer hold it
_ENOUGH = 0.4  # share of a message's words that a memory must hold to be recalled
_MOST_SOURCES = 12  # a line that rests on more messages says little about each
_LINE = 3.0  # for facts and history: they say in few words what many messages did
_FACT = 0.4  # how much of a fact's score its evidence gets
_BESIDE = 0.15  # how much of its neighbours' scores a message gets
_SPEAKER = 1.8  # for what was said by somebody the question names
_EPISODE = 0.6  # for a part of the conversation with many matches, at most
_EPISODE_HITS = 4
_PAST = 0.5  # for facts that are no longer true, and for what they rest on
_ASKER = {"i", "my", "me", "mine", "ich", "mein", "meine", "meinen", "我", "私"}

Kind = Literal["fact", "history", "turn", "message"]


@dataclass(frozen=True, slots=True)
class Hit:
    """Something found. `day` is an ISO date or "", `time` is `HH:MM` or "".

    `turn` is a message that matches, `message` one that was asked for by its id, whole and as Markdown.
    `id`: a fact's or a message's; history entries have none. `sources`: the messages a line rests on.
    `past`: superseded, expired or "". `row`: its row in the index.
    """

    kind: Kind
    id: str
    text: str
    day: str
    time: str = ""
    speaker: str = ""
    past: str = ""
    sources: tuple[str, ...] = ()
    score: float = 0.0
    row: int = 0


def moment(at: float) -> tuple[str, str]:
    """Unix seconds as the day and the time of a hit."""
    when = datetime.fromtimestamp(at)
    return f"{when:%Y-%m-%d}", f"{when:%H:%M}"


def rank(index: Connection, text: str, scope: SearchScope, now: datetime, limit: int) -> list[Hit]:
    """The best `limit` hits for any text, best first."""
    terms = _terms(index, with_days(text, now.date()))
    if not terms:
        return []
    turns = {turn.id: turn for turn in rows.turns(index, terms, scope, _TURNS)}
    lines = {line.id: _line_hit(line, line.score) for line in rows.lines(index, terms, scope, _LINES)}
    scores = {turn.id: turn.score for turn in turns.values()}
    evidence = _evidence(index, lines.values(), scope)
    turns |= {turn.id: turn for turn, _ in evidence.values()}
    for turn, score in evidence.values():
        scores[turn.id] = scores.get(turn.id, 0.0) + _FACT * score
    _favour(turns.values(), scores, text)
    outdated = _sources(hit for hit in lines.values() if hit.past)
    outdated -= _sources(hit for hit in lines.values() if hit.kind == "fact")
    for turn in turns.values():
        scores[turn.id] *= _PAST if message_id(turn.session, turn.seq) in outdated else 1.0
    for row, hit in lines.items():  # a fact comes before the messages it rests on
        resting = [scores[evidence[name][0].id] for name in hit.sources if name in evidence and not hit.past]
        scores[row] = max(
            hit.score * _LINE * (_PAST if hit.past else 1.0), *(1.001 * score for score in resting), 0.0
        )
    best = sorted(scores, key=lambda row: (-scores[row], row))[:limit]
    return [
        replace(lines[row], score=scores[row]) if row in lines else _turn_hit(turns[row], scores[row])
        for row in best
    ]


def recall(index: Connection, text: str, scope: SearchScope, start: int, limit: int) -> list[Hit]:
    """What holds at least `_ENOUGH` of the words of `text`, most first; rare words count more.

    Of the scope's own chat only what was said up to message `start`. It costs a look at each word: words that
    very many rows hold say nothing here.
    """
    known = max(rows.count(index), _SMALL)
    total, held = 0.0, defaultdict[int, float](float)
    for term in content_words(text)[:_MOST_TERMS]:
        holders = rows.holders(index, term, _MOST_HOLDERS)
        if not holders and not term.isascii() and len(term) < 3:
            continue  # a pair of characters need not be a word
        weight = math.log(1 + known / (max(_RARE, len(holders)) + 0.5))
        total += weight
        for row in holders if len(holders) < _MOST_HOLDERS else ():
            held[row] += weight
    best = sorted(held, key=lambda row: (-held[row], -row))[:_WEIGHED]
    turns = rows.turns_of(index, [row for row in best if row < FILES], scope, start)
    scores = {turn.id: held[turn.id] for turn in turns}
    _favour(turns, scores, text)
    hits = [_turn_hit(turn, scores[turn.id]) for turn in turns if held[turn.id] >= _ENOUGH * total]
    lines = rows.lines_of(index, [row for row in best if row > FILES and held[row] >= _ENOUGH * total], scope)
    hits += [_line_hit(line, _LINE * held[line.id]) for line in lines]
    return sorted(hits, key=lambda hit: (-hit.score, -hit.row))[:limit]


# -- terms


def _terms(index: Connection, text: str) -> list[str]:
    """The words to look for: the rarest ones, as many as a search may cost."""
    counted = [(rows.frequency(index, word, _MOST_ROWS), word) for word in content_words(text)[:_MOST_TERMS]]
    for word in [word for frequency, word in counted if not frequency]:
        counted += _relatives(index, word)
    terms: list[str] = []
    cost = 0
    for frequency, term in sorted(set(counted)):
        cost += frequency
        if frequency and (cost <= _MOST_ROWS or not terms):
            terms.append(term)
    return terms


def _relatives(index: Connection, word: str) -> Iterator[tuple[int, str]]:
    """For a word nobody has said: words that begin with it, else the two words it is made of."""
    if len(word) < _SHORT_WORD or not word.isalpha():
        return
    longer = rows.frequency(index, f"{word}*", _MOST_ROWS)
    if longer:
        yield longer, f"{word}*"
        return
    for cut in range(len(word) - _SHORT_WORD, _SHORT_WORD - 1, -1):
        head, tail = word[:cut], word[cut:]
        if first := rows.frequency(index, head, _MOST_ROWS):
            yield first, head
            if second := rows.frequency(index, tail, _MOST_ROWS):
                yield second, tail
            return


# -- scores


def _sources(hits: Iterable[Hit]) -> set[str]:
    return {name for hit in hits for name in hit.sources}


def _evidence(
    index: Connection, lines: Iterable[Hit], scope: SearchScope
) -> dict[str, tuple[FoundTurn, float]]:
    """The messages that true facts rest on, by id, each with the score of its best fact."""
    best: dict[str, float] = {}
    for hit in lines:
        if not hit.past and len(hit.sources) <= _MOST_SOURCES:
            best |= {name: max(best.get(name, 0.0), hit.score) for name in hit.sources}
    found = {name: rows.turn(index, *split_message_id(name), scope) for name in best}
    return {name: (turn, best[name]) for name, turn in found.items() if turn is not None}


def _favour(turns: Collection[FoundTurn], scores: dict[int, float], text: str) -> None:
    """Raise what stands beside good messages, what somebody named in the question said, and good episodes."""
    alone = {(turn.session, turn.seq): scores[turn.id] for turn in turns}
    for turn in turns:
        beside = alone.get((turn.session, turn.seq - 1), 0.0) + alone.get((turn.session, turn.seq + 1), 0.0)
        scores[turn.id] += _BESIDE * beside
    names = set(words(text))
    if names & _ASKER:
        names.add("user")
    named = {speaker for speaker in {turn.speaker for turn in turns} if names & set(words(speaker))}
    by_episode: dict[int, list[float]] = defaultdict(list)
    for turn in turns:
        if turn.speaker in named:
            scores[turn.id] *= _SPEAKER
        by_episode[turn.episode].append(scores[turn.id])
    sums = {key: sum(sorted(found, reverse=True)[:_EPISODE_HITS]) for key, found in by_episode.items()}
    most = max(sums.values(), default=0.0)
    for turn in turns if most > 0 else ():
        scores[turn.id] *= 1 + _EPISODE * sums[turn.episode] / most


# -- rows as hits


def _turn_hit(turn: FoundTurn, score: float = 0.0) -> Hit:
    name = message_id(turn.session, turn.seq)
    return Hit("turn", name, turn.text, *moment(turn.at), turn.speaker, score=score, row=turn.id)


def _line_hit(line: FoundLine, score: float) -> Hit:
    if line.file == FACTS_FILE:
        (fact,) = parse_facts(line.text)
        hit = Hit("fact", fact.id, fact.text, fact.origin.day, sources=fact.origin.messages)
    else:
        (entry,) = parse_history(line.text)
        hit = Hit(
            "history", "", entry.text, entry.origin.day, entry.time, "", entry.past, entry.origin.messages
        )
    return replace(hit, score=score, row=line.id)


# -- hits as text


def show(hit: Hit, asked: str, limit: int) -> str:
    """A hit as a line of a list, `limit` characters of it; a message that was asked for keeps its lines."""
    if hit.kind != "message":
        return f"- {describe(hit)}: {excerpt(hit.text, asked, limit)}"
    cut = len(hit.text) - limit
    return hit.text if cut <= 0 else f"{hit.text[:limit]}\n[… {cut} characters more]"


def describe(hit: Hit) -> str:
    """Date and source of a hit, for example `2026-11-26 14:05 user, cli:direct#12`."""
    when = f"{hit.day} {hit.time}".strip()
    if hit.speaker:
        return f"{when} {hit.speaker}, {hit.id}"
    source = f"fact {hit.id}" if hit.kind == "fact" else "history"
    if hit.sources:
        source += f" from {hit.sources[0]}" + (f" and {len(hit.sources) - 1} more" if hit.sources[1:] else "")
    return f"{when}, {source}" if when else source


def excerpt(text: str, asked: str, limit: int) -> str:
    """`text` on one line; of a long one `limit` characters around the first word that was asked for."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    folded = line.casefold()
    places = (re.search(re.escape(word), folded) for word in content_words(asked))
    first = min((found.start() for found in places if found), default=0)
    start = max(0, min(first - limit // 4, len(line) - limit))
    cut = line[start : start + limit - 2]
    return ("…" if start else "") + cut + ("…" if start + limit - 2 < len(line) else "")
