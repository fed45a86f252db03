"""The store under test, once for every database there is an adapter for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nanobot.store.store import Store, open_store


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


Opener = Callable[[], Store]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Opener]:
    """Opens the one database of the test, each time as a process of its own would; closes all at the end."""
    opened: list[Store] = []

    def open_one() -> Store:
        assert request.param == "sqlite"
        opened.append(open_store(tmp_path / "nanobot.db", clock, clock))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()
