"""What a benchmark found, with what is promised, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured number. `at_most` None: only shown. `note` says how it came about, or why it is missing."""

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.at_most is None or self.value is None:
            return "" if self.value is not None else "skipped"
        return "kept" if self.value <= self.at_most else "BROKEN"


def ratio(name: str, value: float, over: float, at_most: float, note: str = "") -> Figure:
    return Figure(name, value / over, "x", at_most, note)


def table(figures: Sequence[Figure]) -> str:
    """The figures as text; promises that are broken end in BROKEN."""
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':<{width}}{'measured':>12}{'promised':>12}  "]
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.2f} {figure.unit}".strip()
        most = "" if figure.at_most is None else f"{figure.at_most:g} {figure.unit}".strip()
        lines.append(
            f"{figure.name:<{width}}{value:>12}{most:>12}  {figure.verdict:<8}{figure.note}".rstrip()
        )
    return "\n".join(lines)


def typical(values: Sequence[float]) -> float:
    """The mean of the lower half: what disturbs a measurement only ever adds to it."""
    lower = sorted(values)[: (len(values) + 1) // 2]
    return sum(lower) / len(lower)
