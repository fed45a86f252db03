"""Jobs of the older nanobot run after the upgrade, or are listed with the reason why they cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Nanobot


def job(job_id: str, schedule: dict[str, Any]) -> dict[str, Any]:
    payload = {"kind": "agent_turn", "message": "Good morning!", "deliver": False}
    return {"id": job_id, "name": f"job {job_id}", "enabled": True, "schedule": schedule, "payload": payload}


@pytest.fixture
def nanobot(tmp_path: Path) -> Nanobot:
    nanobot = Nanobot(tmp_path)
    (nanobot.home / "cron").mkdir(parents=True)
    return nanobot


def write(nanobot: Nanobot, **schedules: str | int) -> None:
    jobs = []
    for job_id, when in schedules.items():
        kind = {"kind": "every", "everyMs": when} if isinstance(when, int) else {"kind": "cron", "expr": when}
        jobs.append(job(job_id, kind))
    (nanobot.home / "cron/jobs.json").write_text(json.dumps({"version": 1, "jobs": jobs}))


def listed(nanobot: Nanobot) -> dict[str, dict[str, Any]]:
    found = json.loads(nanobot.run("cron", "list", "--all", "--json").stdout)
    return {entry["id"]: entry for entry in found}


def test_what_another_parser_took_still_runs(nanobot: Nanobot) -> None:
    write(
        nanobot, a="@midnight", b="@yearly", c="0 9 * * * 30", d="0 9 ? * MON", e=60_000, f="0 22-2 * * 5-1"
    )
    jobs = listed(nanobot)
    assert [entry["enabled"] for entry in jobs.values()] == [True] * 6
    assert jobs["c"]["next_at"] % 60 == 30
    assert "0 22-23,0-2 * * 5-6,0-1" in str(jobs["f"])


def test_what_cannot_run_is_named_where_the_owner_looks_until_it_is_mended(nanobot: Nanobot) -> None:
    write(nanobot, good="0 9 * * *", boot="@reboot", fast="* * * * * */5")
    first = nanobot.run("cron", "list")
    for job_id, words in (
        ("boot: ", "@reboot"),
        ("fast: ", "a sixth field with the one second"),
        ("good ", ""),
    ):
        (line,) = [line for line in first.stdout.splitlines() if line.startswith(job_id)]
        assert words in line
    assert "2 cannot be read" in nanobot.run("status").stdout
    added = nanobot.run("cron", "add", "-n", "n", "-m", "m", "-e", "60")
    told = [line for line in added.stderr.splitlines() if not line.startswith("No gateway runs")]
    assert told == []  # only who looks is told again
    for command in ("enable", "remove", "run"):
        refused = nanobot.run("cron", command, "boot")
        assert refused.returncode != 0
        assert "Mend or delete it in" in refused.stderr
    write(nanobot, good="0 9 * * *", boot="@hourly", fast="* * * * *")
    assert listed(nanobot)["boot"]["enabled"]
    assert "cannot be read" not in nanobot.run("status").stdout
