"""Which messages and facts answer a question best. The weights were tuned on conversations that are not part
of the project (benchmarks/README.md)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from sqlite3 import Connection, Row
from typing import Literal

from nanobot.memory import search_index as rows
from nanobot.memory.facts import FACTS_FILE, message_id, parse_facts, parse_history
from nanobot.memory.search_index import SearchScope
from nanobot.memory.words import content_words, words

_TURNS = 200  # candidates that are scored
_LINES = 60
_WEIGHED = 40  # candidates before a turn, which is not to wait
_MOST_TERMS = 32
_SMALL = 1_000  # rows; a word says no more in a smaller memory than in one of that size
_SHORT_WORD = 4  # characters; beginnings and parts of words are no shorter
_MOST_ROWS = 15_000  # rows that the terms may match together: what a search costs at most
_MOST_HOLDERS = 500  # of a word that says what something is about
_RARE = 6  # rows; a word says no more when fewer hold it
_ENOUGH = 0.4  # share of a message's words that a memory must hold to be recalled
_LINE = 3.0  # for facts and history: they say in few words what many messages did
_FACT = 0.4  # how much of a fact's score its evidence gets
_BESIDE = 0.15  # how much of its neighbours' scores a message gets
_SPEAKER = 1.8  # for what was said by somebody the question names
_EPISODE = 0.6  # for a part of the conversation with many matches, at most
_EPISODE_HITS = 4
_PAST = 0.5  # for facts that are no longer true, and for what they rest on
_ASKER = {"i", "my", "me", "mine", "ich", "mein", "meine", "meinen", "我", "私"}


@dataclass(frozen=True, slots=True)
class Hit:
    """Something found: `turn` is a message that matches, `message` one asked for by its id, as Markdown.
    `id`: a fact's or a message's; history entries have none. `day`: an ISO date or "", `time`: `HH:MM` or "".
    `past`: superseded, expired or "". `sources`: the messages a line rests on. `row`: that in the index."""

    kind: Literal["fact", "history", "turn", "message"]
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
    from nanobot.memory.dates import with_days  # not before a turn

    terms = _terms(index, with_days(text, now.date()))
    if not terms:
        return []
    lines = [_line_hit(line, line["score"]) for line in rows.best(index, "lines", terms, scope, _LINES)]
    turns = {turn["name"]: turn for turn in rows.best(index, "turns", terms, scope, _TURNS)}
    scores = {name: float(turn["score"]) for name, turn in turns.items()}
    true = {name: line.score for line in reversed(lines) if line.kind == "fact" for name in line.sources}
    turns |= {turn["name"]: turn for turn in rows.turns_named(index, true.keys() - turns.keys(), scope)}
    for name in true.keys() & turns.keys():
        scores[name] = scores.get(name, 0.0) + _FACT * true[name]
    _boost(turns, scores, text)
    past = {name for line in lines if line.past for name in line.sources}
    for name in (past - true.keys()) & scores.keys():
        scores[name] *= _PAST
    hits = [_turn_hit(turn, scores[name]) for name, turn in turns.items()]
    for line in lines:  # a fact comes before the messages it rests on
        resting = [scores[name] for name in line.sources if name in scores and line.kind == "fact"]
        own = _LINE * line.score * (_PAST if line.past else 1.0)
        hits.append(replace(line, score=max([own, *(1.001 * score for score in resting)])))
    return sorted(hits, key=lambda hit: (-hit.score, hit.row))[:limit]


def recall(index: Connection, text: str, scope: SearchScope, start: int, limit: int) -> list[Hit]:
    """What holds at least `_ENOUGH` of the words of `text`, most first; rare words count more, and those that
    very many rows hold nothing. Of the scope's own chat only what was said up to message `start`."""
    held, enough = _held(index, text)
    found = [row for row, weight in held.items() if weight >= enough]
    if not found:
        return []
    best = sorted(found, key=lambda row: (-held[row], -row))[:_WEIGHED]
    said = rows.these(index, "turns", best, scope)
    turns = {turn["name"]: turn for turn in said if turn["session"] != scope.session or turn["seq"] <= start}
    scores = {name: held[turn["id"]] for name, turn in turns.items()}
    _boost(turns, scores, text)
    names = sorted(turns, key=lambda name: (-scores[name], -turns[name]["id"]))[:limit]
    hits = [_turn_hit(turns[name], scores[name]) for name in names]
    lines = rows.these(index, "lines", best, scope)
    hits += [_line_hit(line, _LINE * held[line["id"]]) for line in lines]
    return sorted(hits, key=lambda hit: (-hit.score, -hit.row))[:limit]


def _held(index: Connection, text: str) -> tuple[dict[int, float], float]:
    """The weight of the words of `text` that each row holds, and how much of it is enough to be recalled."""
    known = max(rows.position(index).last, _SMALL)
    total, held = 0.0, defaultdict[int, float](float)
    for term in content_words(text)[:_MOST_TERMS]:
        count, holders = rows.holders(index, term, _MOST_HOLDERS)
        if not count and not term.isascii() and len(term) < 3:
            continue  # a pair of characters need not be a word
        weight = math.log(1 + known / (max(_RARE, count) + 0.5))
        total += weight
        for row in holders:
            held[row] += weight
    return held, _ENOUGH * total


def _terms(index: Connection, text: str) -> list[str]:
    """The words to look for: the rarest ones, as many as a search may cost."""
    counted = [(rows.frequency(index, word, _MOST_ROWS), word) for word in content_words(text)[:_MOST_TERMS]]
    for word in [word for frequency, word in counted if not frequency and word.isalpha()]:
        counted += _variants(index, word)
    terms: list[str] = []
    cost = 0
    for frequency, term in sorted(set(counted)):
        cost += frequency
        if frequency and (cost <= _MOST_ROWS or not terms):
            terms.append(term)
    return terms


def _variants(index: Connection, word: str) -> Iterator[tuple[int, str]]:
    """For a word nobody has said: words that begin like it, and the rest of it when that is a word."""
    for end in range(len(word), _SHORT_WORD - 1, -1):
        if longer := rows.frequency(index, f"{word[:end]}*", _MOST_ROWS):
            yield longer, f"{word[:end]}*"
            if len(word) - end >= _SHORT_WORD:
                yield rows.frequency(index, word[end:], _MOST_ROWS), word[end:]
            return


def _boost(turns: Mapping[str, Row], scores: dict[str, float], text: str) -> None:
    """Raise what stands beside good messages, what somebody named in the question said, and good episodes."""
    alone = dict(scores)
    for name, turn in turns.items():
        beside = [message_id(turn["session"], turn["seq"] + step) for step in (-1, 1)]
        scores[name] += _BESIDE * sum(alone.get(neighbour, 0.0) for neighbour in beside)
    asked = set(words(text))
    asked |= {"user"} if asked & _ASKER else set()
    speakers = {turn["speaker"] for turn in turns.values()}
    named = {speaker for speaker in speakers if asked & set(words(speaker))}
    by_episode: dict[int, list[float]] = defaultdict(list)
    for name, turn in turns.items():
        scores[name] *= _SPEAKER if turn["speaker"] in named else 1.0
        by_episode[turn["episode"]].append(scores[name])
    sums = {key: sum(sorted(found)[-_EPISODE_HITS:]) for key, found in by_episode.items()}
    most = max(sums.values(), default=0.0) or 1.0
    for name, turn in turns.items():
        scores[name] *= 1 + _EPISODE * sums[turn["episode"]] / most


def _turn_hit(turn: Row, score: float) -> Hit:
    place = turn["name"], turn["text"], *moment(turn["at"])
    return Hit("turn", *place, turn["speaker"], score=score, row=turn["id"])


def _line_hit(line: Row, score: float) -> Hit:
    if line["file"] == FACTS_FILE:
        (fact,) = parse_facts(line["text"])
        hit = Hit("fact", fact.id, fact.text, fact.origin.day, sources=fact.origin.messages)
    else:
        (entry,) = parse_history(line["text"])
        about = (entry.origin.day, entry.time, "", entry.past, entry.origin.messages)
        hit = Hit("history", "", entry.text, *about)
    return replace(hit, score=score, row=line["id"])


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
    first = min((folded.find(word) for word in content_words(asked) if word in folded), default=0)
    start = max(0, min(first - limit // 4, len(line) - limit))
    cut = line[start : start + limit - 2]
    return ("…" if start else "") + cut + ("…" if start + limit - 2 < len(line) else "")
