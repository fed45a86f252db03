"""Faults that stood when their rule came: `known_faults.txt`, which only gets shorter.

A line is `rule: subject: amount`. A fault that is not listed, or is larger than listed, fails; so does a line
whose fault is gone. `check_budgets.py --prune` takes those lines out and lowers amounts that have fallen,
also after git has merged the file by keeping the lines of both sides (.gitattributes).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from budgets.limits import EXCEPTIONS, RULES
from budgets.source import Measure

Known = dict[tuple[str, str], int]


def file_of(root: Path) -> Path:
    return root / "scripts" / "budgets" / "known_faults.txt"


def read_known(root: Path) -> Known:
    """(rule, subject): amount. Empty for a checkout without the file."""
    path = file_of(root)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = [line.split(": ") for line in sorted(lines)]  # a merge may keep a line of both sides
    return {(rule, subject): int(amount) for rule, subject, amount in rows}


def write_known(root: Path, known: Known) -> None:
    text = "".join(f"{rule}: {subject}: {amount}\n" for (rule, subject), amount in sorted(known.items()))
    file_of(root).write_text(text, encoding="utf-8")


def limit_of(measure: Measure) -> int:
    return EXCEPTIONS.get((measure.rule, measure.subject), RULES[measure.rule][0])


def over(measures: Iterable[Measure]) -> list[Measure]:
    """Those above their limit. Of several with one rule and subject the largest stands for all."""
    largest: dict[tuple[str, str], Measure] = {}
    for measure in measures:
        other = largest.get((measure.rule, measure.subject))
        if measure.amount > limit_of(measure) and (other is None or other.amount < measure.amount):
            largest[measure.rule, measure.subject] = measure
    return list(largest.values())


def faults(measures: Iterable[Measure], known: Known) -> list[str]:
    """One line for each fault that is not known, and for each known one that is gone."""
    found = over(measures)
    new = [one for one in found if one.amount > known.get((one.rule, one.subject), limit_of(one))]
    lines = [
        f"{one.where}: {one.rule} {one.subject}: {one.amount} {RULES[one.rule][1]}, at most {limit_of(one)}"
        for one in new
    ]
    gone = known.keys() - {(one.rule, one.subject) for one in found}
    lines += [
        f"scripts/budgets/known_faults.txt lists what is mended: {rule}: {subject}. "
        "Take it out: python scripts/check_budgets.py --prune"
        for rule, subject in sorted(gone)
    ]
    return lines


def pruned(measures: Iterable[Measure], known: Known) -> Known:
    """`known` without what is gone, and with amounts that have fallen."""
    amounts = {(one.rule, one.subject): one.amount for one in over(measures)}
    return {key: min(amount, amounts[key]) for key, amount in known.items() if key in amounts}
