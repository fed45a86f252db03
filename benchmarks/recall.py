"""How well memory search finds what was said: recall and rank on conversations with known answers.

`--data` is a JSON file:
  conversations: [{id, turns: [{id, session, time, speaker, text}]}], time in words or as an ISO date
  questions: [{conversation, question, category, evidence: [turn id]}]
  facts: [{conversation, text, evidence: [turn id]}], optional, used with --facts

Recall@k is the share of a question's evidence turns among the first k turns found, averaged over the
questions; MRR is the mean of 1 / rank of the first one. The index is made and asked by nanobot's own code,
one for each conversation and one for all of them together (pooled). `--scale N` adds N - 1 copies of the
data with exchanged words; times are always those of the pooled index. `--ablate` measures what each feature
of the ranking is worth: it is switched off alone, with and without facts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from nanobot.memory import dates, ranking, search_index, words  # noqa: E402
from nanobot.memory.facts import Evidence, Fact, format_fact, message_id  # noqa: E402
from nanobot.memory.search import MemorySearch  # noqa: E402
from nanobot.memory.search_index import (  # noqa: E402
    Position,
    SearchIndex,
    SearchScope,
    TurnRow,
    add_turns,
)
from nanobot.store.store import Store  # noqa: E402

CUTS = (5, 10, 20)
_FOUND = 200  # hits asked for; facts among them do not count as turns
_TURN_SECONDS = 20  # between two turns of a session
_WORD = re.compile(r"[^\W\d_]+")
_CLOCK = re.compile(r"\b(\d{1,2}):(\d{2})\s*([ap]m)?", re.IGNORECASE)


@dataclass(frozen=True)
class Turn:
    id: str
    session: str
    at: float
    speaker: str
    text: str


@dataclass(frozen=True)
class Conversation:
    """`facts`: (text, ids of the turns it rests on)."""

    id: str
    turns: tuple[Turn, ...]
    facts: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Question:
    conversation: str
    text: str
    category: str
    evidence: tuple[str, ...]


@dataclass
class Scores:
    """Sums over questions, by category."""

    rows: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, category: str, evidence: set[str], found: Sequence[str]) -> None:
        recall = [len(evidence.intersection(found[:cut])) / len(evidence) for cut in CUTS]
        first = next((1 / rank for rank, name in enumerate(found, start=1) if name in evidence), 0.0)
        for name in ("", category):
            self.rows[name].append([*recall, first])

    def means(self, category: str = "") -> dict[str, float]:
        rows = self.rows.get(category, [])
        names = [*(f"recall@{cut}" for cut in CUTS), "mrr"]
        return {
            name: round(sum(row[i] for row in rows) / len(rows), 4) if rows else 0.0
            for i, name in enumerate(names)
        }


# -- reading


def read_data(path: Path) -> tuple[list[Conversation], list[Question]]:
    """What is in the file; a question without known evidence cannot be scored and is left out."""
    data = json.loads(path.read_text(encoding="utf-8"))
    facts: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for item in data.get("facts", ()):
        facts[item["conversation"]].append((item["text"], tuple(item["evidence"])))
    conversations = [
        Conversation(item["id"], tuple(_turns(item["turns"])), tuple(facts[item["id"]]))
        for item in data["conversations"]
    ]
    known = {(talk.id, turn.id) for talk in conversations for turn in talk.turns}
    questions = [
        Question(item["conversation"], item["question"], item["category"], tuple(item["evidence"]))
        for item in data["questions"]
    ]
    return conversations, [
        asked for asked in questions if any((asked.conversation, name) in known for name in asked.evidence)
    ]


def _turns(items: Iterable[dict[str, Any]]) -> Iterable[Turn]:
    """Turns with times that rise: those of a session follow each other, sessions never overlap."""
    latest, session, begun = 0.0, "", False
    for item in items:
        if not begun or str(item["session"]) != session:
            session, begun = str(item["session"]), True
            latest = max(_seconds(item["time"]), latest + 7200)
        latest += _TURN_SECONDS
        yield Turn(str(item["id"]), session, latest, item["speaker"], item["text"])


def _seconds(words: str) -> float:
    """Unix seconds of a time such as `1:56 pm on 8 May, 2023` or `2023-05-08 13:56`."""
    form = "%d %B, %Y" if "," in words else "%Y-%m-%d"
    day = words.rpartition(" on ")[2] if "," in words else words[:10]
    moment = datetime.strptime(day, form)
    if clock := _CLOCK.search(words):
        hour, half = int(clock[1]), (clock[3] or "").lower()
        hour = hour % 12 + 12 * (half == "pm") if half else hour
        moment += timedelta(hours=hour, minutes=int(clock[2]))
    return moment.timestamp()


# -- growing


def copies(conversations: Sequence[Conversation], scale: int) -> Iterator[Conversation]:
    """The conversations, and `scale` - 1 times the same with words exchanged for ones about as frequent."""
    counts = Counter(word for talk in conversations for turn in talk.turns for word in _words(turn.text))
    by_frequency = [word for word, _ in counts.most_common()]
    yield from conversations
    for number in range(2, scale + 1):
        exchanged = _exchange(by_frequency, number)
        yield from (_copy(talk, number, exchanged) for talk in conversations)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _exchange(by_frequency: Sequence[str], seed: int) -> dict[str, str]:
    """A word for each word beyond the 50 commonest, from among its neighbours in frequency."""
    generator = random.Random(seed)
    exchanged: dict[str, str] = {}
    first = 50
    while first < len(by_frequency):
        band = by_frequency[first : first + max(20, first // 3)]
        exchanged |= zip(band, generator.sample(band, len(band)), strict=True)
        first += len(band)
    return exchanged


def _copy(talk: Conversation, number: int, exchanged: dict[str, str]) -> Conversation:
    def altered(text: str) -> str:
        return _WORD.sub(lambda found: exchanged.get(found[0].lower(), found[0]), text)

    turns = tuple(replace(turn, text=altered(turn.text)) for turn in talk.turns)
    facts = tuple((altered(text), evidence) for text, evidence in talk.facts)
    return Conversation(f"{talk.id}~{number}", turns, facts)


# -- measuring


async def measure(path: Path, scale: int, with_facts: bool) -> dict[str, Any]:
    conversations, questions = read_data(path)
    single, pooled = Scores(), Scores()
    for talk in conversations:
        own = [asked for asked in questions if asked.conversation == talk.id]
        await run([talk], own, with_facts, single)
    seconds: list[float] = []
    index = await run(copies(conversations, scale), questions, with_facts, pooled, seconds)
    seconds.sort()
    return {
        "overall": single.means(),
        "per_category": {name: single.means(name) for name in sorted(single.rows) if name},
        "pooled": pooled.means(),
        "query_ms": {name: _quantile(seconds, share) for name, share in (("p50", 0.5), ("p95", 0.95))},
        "index": index,
        "scale": scale,
        "facts": with_facts,
        "questions": len(questions),
    }


def _quantile(values: Sequence[float], share: float) -> float:
    return round(1000 * values[min(len(values) - 1, int(share * len(values)))], 2) if values else 0.0


async def run(
    conversations: Iterable[Conversation],
    questions: Sequence[Question],
    with_facts: bool,
    scores: Scores,
    seconds: list[float] | None = None,
) -> dict[str, Any]:
    """Index the conversations in a new home and ask the questions; returns figures of the index."""
    with tempfile.TemporaryDirectory(prefix="nanobot-recall-") as name:
        folder = Path(name)
        index = SearchIndex(folder / "search.db")
        store = Store(folder / "nanobot.db")
        started = time.perf_counter()
        places, now = await _fill(index, conversations, folder / "MEMORY.md" if with_facts else None)
        memory = MemorySearch(store, folder, index=index, clock=lambda: datetime.fromtimestamp(now))
        await memory.refresh()
        taken = round(time.perf_counter() - started, 3)
        for asked in questions:
            started = time.perf_counter()
            hits = await memory.search(asked.text, SearchScope(reach="everything"), _FOUND)
            if seconds is not None:
                seconds.append(time.perf_counter() - started)
            evidence = {places.get((asked.conversation, turn), f"no turn {turn}") for turn in asked.evidence}
            scores.add(asked.category, evidence, [hit.id for hit in hits if hit.kind == "turn"])
        await memory.aclose()
        await store.aclose()
        return {"seconds": taken, "bytes": index.path.stat().st_size, "turns": len(places)}


async def _fill(
    index: SearchIndex, conversations: Iterable[Conversation], facts: Path | None
) -> tuple[dict[tuple[str, str], str], float]:
    """Add the turns as they would come from the database, with their speakers, and write the facts.

    Returns the message ids of (conversation, turn) and the time of the newest turn.
    """
    places: dict[tuple[str, str], str] = {}
    count, newest = 0, 0.0
    for talk in conversations:
        rows: list[TurnRow] = []
        for seq, turn in enumerate(talk.turns, start=1):
            places[talk.id, turn.id] = message_id(talk.id, seq)
            rows.append(TurnRow(count + seq, talk.id, seq, turn.at, False, turn.speaker, turn.text.strip()))
            newest = max(newest, turn.at)
        count += len(rows)
        await index.write(add_turns, rows, Position(), Position())
        if facts is not None:
            with facts.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in _fact_lines(talk, places))
    return places, newest


def _fact_lines(talk: Conversation, places: dict[tuple[str, str], str]) -> Iterator[str]:
    """The lines of MEMORY.md: a fact is dated like the newest turn it rests on."""
    times = {turn.id: turn.at for turn in talk.turns}
    for text, evidence in talk.facts:
        known = [turn for turn in evidence if turn in times]
        day = str(datetime.fromtimestamp(max(times[turn] for turn in known)).date()) if known else ""
        yield format_fact(Fact(text, Evidence(day, tuple(places[talk.id, turn] for turn in known))))


# -- what a feature is worth

SWITCHES: dict[str, tuple[ModuleType, str, Any]] = {  # feature: what it is switched off by
    "neighbours' text": (search_index, "_WEIGHTS", "1.0, 0.0, 0.0, 0.6"),
    "words of the date": (search_index, "_WEIGHTS", "1.0, 0.5, 0.3, 0.0"),
    "days that are asked for": (dates, "with_days", lambda text, today: text),
    "speaker": (ranking, "_SPEAKER", 1.0),
    "facts lend to evidence": (ranking, "_FACT", 0.0),
    "episode": (ranking, "_EPISODE", 0.0),
    "neighbours' score": (ranking, "_BESIDE", 0.0),
    "past comes later": (ranking, "_PAST", 1.0),
    "beginnings and compounds": (ranking, "_SHORT_WORD", 1000),
    "irregular verbs": (words, "_BASE", {}),
}


async def ablate(path: Path) -> None:
    """Print recall@10 and MRR, turns alone and with facts, of all features and without each."""
    for name, switch in {"(all)": None, **SWITCHES}.items():
        with patch.object(*switch) if switch else contextlib.nullcontext():
            words._folded.cache_clear()
            reports = [(await measure(path, 1, with_facts=facts))["overall"] for facts in (False, True)]
        figures = [report[figure] for report in reports for figure in ("recall@10", "mrr")]
        print(f"| {name} |" + "|".join(f" {figure:.3f} " for figure in figures) + "|", flush=True)


# -- showing


def table(report: dict[str, Any]) -> str:
    names = [*(f"recall@{cut}" for cut in CUTS), "mrr"]
    rows = {"overall": report["overall"], **report["per_category"], "pooled": report["pooled"]}
    lines = [f"{'':<14}" + "".join(f"{name:>12}" for name in names)]
    lines += [
        f"{title:<14}" + "".join(f"{figures[name]:>12.4f}" for name in names)
        for title, figures in rows.items()
    ]
    index, query = report["index"], report["query_ms"]
    facts = "with facts" if report["facts"] else "without facts"
    lines.append(f"{report['questions']} questions, {facts}, scale {report['scale']}")
    lines.append(f"query: p50 {query['p50']} ms, p95 {query['p95']} ms, pooled over {index['turns']:,} turns")
    lines.append(f"index: {index['seconds']} s, {index['bytes'] / 1e6:.1f} MB")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure memory search on conversations with known answers.")
    parser.add_argument("--data", type=Path, required=True, help="JSON file; the form is in this file's head")
    parser.add_argument("--facts", action="store_true", help="put the facts into MEMORY.md")
    parser.add_argument("--scale", type=int, default=1, help="how many times the data, with altered words")
    parser.add_argument("--ablate", action="store_true", help="switch off one feature at a time")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    try:
        if options.ablate:
            asyncio.run(ablate(options.data))
            return 0
        report = asyncio.run(measure(options.data, max(1, options.scale), options.facts))
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"Error: {options.data} cannot be used: {error!r}", file=sys.stderr)
        return 1
    print(json.dumps(report, indent=2) if options.json else table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
