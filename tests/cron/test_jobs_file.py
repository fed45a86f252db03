"""The jobs of an older nanobot are taken over once, whatever else their file holds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.cron.jobs import Job, JobTable
from nanobot.legacy.jobs_file import import_jobs
from nanobot.store.store import Store

NOW = 1_800_000_000.0


def entry(**changes: Any) -> dict[str, Any]:
    """A job as the older nanobot writes it."""
    return {
        "id": "1a2b3c4d",
        "name": "daily",
        "enabled": True,
        "schedule": {"kind": "cron", "atMs": None, "everyMs": None, "expr": "0 9 * * *", "tz": "UTC"},
        "payload": {
            "kind": "agent_turn",
            "message": "Good morning!",
            "deliver": True,
            "channel": "telegram",
            "to": "42",
        },
        "state": {"nextRunAtMs": None, "lastRunAtMs": None, "lastStatus": None, "lastError": None},
        "createdAtMs": (NOW - 90) * 1000,
        "updatedAtMs": (NOW - 90) * 1000,
        "deleteAfterRun": False,
        **changes,
    }


async def imported(home: Path, content: str) -> list[Job]:
    """The jobs after two imports, the file being untouched."""
    path = home / "cron" / "jobs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    store = Store(home / "nanobot.db")
    try:
        await import_jobs(store, home, NOW)
        await import_jobs(store, home, NOW)
        assert path.read_text() == content
        return await JobTable(store).all()
    finally:
        await store.aclose()


def file_of(*jobs: Any) -> str:
    return json.dumps({"version": 1, "jobs": jobs})


async def test_a_job_keeps_all_that_matters(tmp_path: Path) -> None:
    (job,) = await imported(tmp_path, file_of(entry()))
    assert (job.id, job.name, job.message, job.deliver) == ("1a2b3c4d", "daily", "Good morning!", True)
    assert (job.channel, job.chat_id, job.enabled) == ("telegram", "42", True)
    assert job.schedule == {"kind": "cron", "expr": "0 9 * * *", "tz": "UTC"}
    assert job.next_at == NOW + 3600  # NOW is 08:00 UTC


async def test_intervals_count_from_the_creation_and_other_kinds_of_payload_run_too(tmp_path: Path) -> None:
    payload = {"kind": "system_event", "message": "x", "deliver": False, "channel": None, "to": None}
    (job,) = await imported(
        tmp_path, file_of(entry(schedule={"kind": "every", "everyMs": 60_000}, payload=payload))
    )
    assert (job.next_at, job.channel, job.deliver) == (NOW + 30, "cli", False)


async def test_a_time_that_was_never_served_is_left_to_the_catch_up(tmp_path: Path) -> None:
    missed = entry(id="missed", schedule={"kind": "at", "atMs": (NOW - 10) * 1000})
    served = missed | {"id": "served", "state": {"lastRunAtMs": NOW * 1000}}
    jobs = {job.id: job for job in await imported(tmp_path, file_of(missed, served, entry(enabled=False)))}
    assert (jobs["missed"].enabled, jobs["missed"].next_at) == (True, NOW - 10)
    assert not jobs["served"].enabled
    assert (jobs["1a2b3c4d"].enabled, jobs["1a2b3c4d"].next_at) == (False, None)


async def test_a_removed_job_does_not_come_back(tmp_path: Path) -> None:
    (job,) = await imported(tmp_path, file_of(entry()))
    store = Store(tmp_path / "nanobot.db")
    await JobTable(store).remove(job.id)
    await import_jobs(store, tmp_path, NOW)
    assert await JobTable(store).all() == []
    await store.aclose()


BAD: list[tuple[Any, str]] = [
    (None, "makes no sense"),
    ([], "makes no sense"),
    ({}, "makes no sense"),
    (entry(schedule={"kind": "moon"}), "unknown kind 'moon'"),
    (entry(schedule={"kind": "cron", "expr": "61 * * * *"}), "bad minute"),
    (entry(schedule={"kind": "cron", "expr": "@reboot"}), "@reboot"),
    (entry(schedule={"kind": "cron", "expr": "* * * * * */10"}), "one second"),
    (entry(schedule={"kind": "cron", "expr": "0 9 15W * *"}), "bad day-of-month"),
    (entry(schedule={"kind": "cron", "expr": "0 9 * * *", "tz": "Mars/Olympus"}), "no time zone"),
    (entry(schedule={"kind": "every", "everyMs": 0}), "every 0 seconds"),
    (entry(schedule={"kind": "every", "everyMs": "often"}), "makes no sense"),
    (entry(schedule={"kind": "at", "atMs": None}), "makes no sense"),
    (entry(payload=None), "makes no sense"),
    (entry(payload={}), "makes no sense"),
]


async def left_out(home: Path) -> list[Job]:
    """The jobs that cannot be taken over, as the command line lists them."""
    store = Store(home / "nanobot.db")
    try:
        unread = await import_jobs(store, home, NOW)
        stored = await JobTable(store).all()
        assert await JobTable(store, left_out=unread).all() == [*stored, *unread]
        return unread
    finally:
        await store.aclose()


@pytest.mark.parametrize(("bad", "reason"), BAD)
async def test_a_bad_entry_stops_no_other_and_says_why(tmp_path: Path, bad: Any, reason: str) -> None:
    jobs = await imported(tmp_path, file_of(bad, entry(id="good")))
    assert [job.id for job in jobs] == ["good"]
    for _ in range(2):
        (job,) = await left_out(tmp_path)
        assert reason in job.fault
        assert str(tmp_path / "cron/jobs.json") in job.fault
        assert not job.enabled


async def test_a_mended_entry_is_taken_over_and_a_removed_one_stays_away(tmp_path: Path) -> None:
    bad = entry(id="b", schedule={"kind": "cron", "expr": "61 * * * *"})
    (good,) = await imported(tmp_path, file_of(bad, entry(id="good")))
    store = Store(tmp_path / "nanobot.db")
    await JobTable(store).remove(good.id)
    await store.aclose()
    (mended,) = await imported(tmp_path, file_of(entry(id="b"), entry(id="good", name="changed")))
    assert (mended.id, mended.enabled) == ("b", True)
    assert await left_out(tmp_path) == []


@pytest.mark.parametrize("job_id", [None, "", "../../x", "1a2b3c4d", 7])
async def test_every_id_does_also_one_that_comes_twice(tmp_path: Path, job_id: Any) -> None:
    other = entry(id=job_id, name="other")
    jobs = await imported(tmp_path, file_of(entry(), other))
    assert sorted(job.name for job in jobs) == ["daily", "other"]
    assert all(job.id.isalnum() for job in jobs)


@pytest.mark.parametrize(
    ("expr", "stored"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@midnight", "0 0 * * *"),
        ("0 9 * * * 0", "0 9 * * *"),
        ("0 9 * * * 30", "0 9 * * * 30"),
        ("0 9 ? * MON", "0 9 * * MON"),
        ("0 9 * JAN,jul mon-fri", "0 9 * JAN,jul MON-FRI"),
        ("0 9 L * *", "0 9 L * *"),
        ("0 9 * * 5#2", "0 9 * * 5#2"),
        ("0 9 * * L5", "0 9 * * 5L"),
    ],
)
async def test_all_that_the_older_nanobot_could_read_runs(tmp_path: Path, expr: str, stored: str) -> None:
    (job,) = await imported(tmp_path, file_of(entry(schedule={"kind": "cron", "expr": expr, "tz": None})))
    assert (job.schedule["expr"], job.enabled) == (stored, True)
    assert job.next_at is not None


async def test_what_0_2_0_has_left_out_comes_in_and_what_was_removed_since_does_not(tmp_path: Path) -> None:
    """0.2.0 marked the file as taken over as a whole."""
    exprs = {"a": "0 9 * * *", "b": "@daily", "c": "@midnight", "d": "0 9 * * mon", "e": "0 9 ? * *"}
    exprs["f"] = "0 9 * * * 30"
    jobs = [entry(id=name, schedule={"kind": "cron", "expr": expr}) for name, expr in exprs.items()]
    store = Store(tmp_path / "nanobot.db")
    await store.database.change("INSERT INTO imports (name, imported_at) VALUES ('cron/jobs.json', 1)")
    await store.aclose()
    every = entry(id="g", schedule={"kind": "every", "everyMs": 60_000})
    assert [job.id for job in await imported(tmp_path, file_of(*jobs, every))] == ["c", "e", "f"]


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"version": 1}', '{"jobs": 5}', "\x80"])
async def test_a_file_that_cannot_be_read_is_tried_again_when_mended(tmp_path: Path, content: str) -> None:
    assert await imported(tmp_path, content) == []
    (job,) = await left_out(tmp_path)
    assert "cannot be read" in job.fault
    assert len(await imported(tmp_path, file_of(entry()))) == 1
    assert await left_out(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ('"expr": "0 9 * * *"', '"expr": "0 9 * * *", "expr": "0 10 * * *"', "jobs.0.schedule.expr"),
        ('"message": "Good morning!"', '"message": "Good morning!", "message": ""', "jobs.0.payload.message"),
        ('"enabled": true', '"enabled": true, "enabled": false', "jobs.0.enabled"),
        ('"version": 1', '"version": 1, "jobs": []', "jobs"),
    ],
)
async def test_a_key_given_twice_is_named_and_nothing_is_chosen(
    tmp_path: Path, old: str, new: str, name: str
) -> None:
    """One of two equal keys would be lost silently; in a mended file the jobs come in."""
    content = file_of(entry())
    assert old in content
    assert await imported(tmp_path, content.replace(old, new)) == []
    (job,) = await left_out(tmp_path)
    assert f"cron/jobs.json: {name} is given twice, at line 1, column " in job.fault
    assert [job.name for job in await imported(tmp_path, content)] == ["daily"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "tz"]), inner),
    max_leaves=4,
)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(["id", "schedule", "payload", "state", "createdAtMs", "name", "enabled"]), json_values)
async def test_no_value_breaks_the_import(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    logging.getLogger("nanobot").setLevel(logging.CRITICAL)
    try:
        jobs = await imported(
            tmp_path_factory.mktemp("home"), file_of(entry(**{field: value}), entry(id="g"))
        )
        assert "g" in [job.id for job in jobs]
    finally:
        logging.getLogger("nanobot").setLevel(logging.NOTSET)
