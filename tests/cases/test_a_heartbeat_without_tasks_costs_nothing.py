"""A HEARTBEAT.md that only decorates starts no turn, every half hour; one open task more does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cron.test_heartbeat import OLDER_TEMPLATE, World


@pytest.mark.parametrize(
    "text",
    [
        "# Heartbeat\n\n---\n\n## Periodic Tasks\n\n---\n",
        "```markdown\n# Keep this file empty to skip heartbeats.\n```\n",
        "---\ntitle: Heartbeat\n---\n\n**Tasks**\n\n> Checked twice an hour.\n\n| Task | When |\n|---|---|\n",
        "Tasks\n=====\n\n- [x] Water the plants\n    - on Monday\n- ~~Call Anna~~\n- [ ]\n***\n",
        "# Tasks\n- [-] Call Ben\n  - at home\n",
        f"\ufeff{OLDER_TEMPLATE}",
    ],
)
async def test_only_an_open_task_starts_a_turn(tmp_path: Path, text: str) -> None:
    world = World(tmp_path)
    await world.hear("telegram", "anna")
    for content, turns in ((text, 0), (f"{text}\n- [ ] Water the plants\n", 1)):
        world.file.write_text(content, encoding="utf-8")
        world.now += 1800
        assert await world.heartbeat().tick() == bool(turns)
        assert len(await world.serve()) == turns
    await world.store.aclose()
