from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.consolidation.world import World


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.store.aclose()
