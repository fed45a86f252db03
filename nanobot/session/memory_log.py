"""What is stored about consolidation; `memory/log.py` says who asks for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unconsolidated:
    """A session whose messages after `consolidated` are not in the memory files.

    The model's context begins after message `start`; up to `settled` no turn is running. `forgets` rises
    whenever something is forgotten. The next range failed `failures` times and is tried again at `retry_at`.
    """

    session: str
    is_group: bool
    consolidated: int
    start: int
    settled: int
    forgets: int
    failures: int
    retry_at: float
    error: str


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """What the messages `first` to `last` of a session change in the memory files; see memory/files.py."""

    id: int
    session: str
    first: int
    last: int
    body: str
