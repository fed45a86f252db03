from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.tools.plugin_folder import PluginFolder


@pytest.fixture
async def plugins(tmp_path: Path) -> AsyncIterator[PluginFolder]:
    made = PluginFolder(tmp_path / "workspace")
    yield made
    await made.source.aclose()
