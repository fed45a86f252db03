"""Firing: every slot once, whoever fires and whoever dies. A real database, an injected clock."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.bus.hub import Hub, wait_for
from nanobot.cron.jobs import Job, JobTable
from nanobot.cron.schedule import Every, schedule_to_json
from nanobot.cron.service import CronService, owners_chat
from nanobot.errors import ScheduleError, UsageError
from nanobot.legacy.jobs_file import import_jobs
from nanobot.messages import InboundMessage
from nanobot.store.store import Store
from tests.talk import claim_next

START = 1_800_000_000.0
JOB = Job("0badcafe", "tea", "Drink tea", {}, "loopback", "anna", metadata={"thread": "7"})


class World:
    """One home: a clock, and as many services on its database as a test wants."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = START
        self.stores: list[Store] = []
        self.store = self.open()
        self.book = JobTable(self.store)
        self.deliver_to = ""

    async def chat(self) -> tuple[str, str] | None:
        return await owners_chat(self.store, ["telegram"], self.deliver_to)

    def clock(self) -> float:
        return self.now

    def open(self) -> Store:
        self.stores.append(Store(self.home / "nanobot.db", self.clock))
        return self.stores[-1]

    def service(self, store: Store | None = None, *, catch_up: float = 3600) -> CronService:
        store = store or self.store
        return CronService(
            store,
            Hub(store),
            partial(import_jobs, store, self.home),
            self.chat,
            catch_up=catch_up,
        )

    async def run_turns(self, store: Store | None = None) -> list[InboundMessage]:
        """Serve everything that waits, and return it."""
        store = store or self.store
        served = []
        while (turn := await claim_next(store)) is not None:
            await store.turns.finish(turn.claim, "done")
            served.append(turn.inbound)
        return served

    async def only_job(self) -> Job:
        (job,) = await JobTable(self.store).all()
        return job


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    running = World(tmp_path)
    yield running
    for store in running.stores:
        await store.aclose()


async def test_a_slot_becomes_one_message_in_its_chat(world: World) -> None:
    await world.book.add(JOB, every=60)
    service = world.service()
    assert await service.fire_due() == 30
    world.now += 59.5
    assert await service.fire_due() == 0.5
    assert await world.run_turns() == []
    world.now += 0.5
    assert await service.fire_due() == 30
    await service.fire_due()
    (fired,) = await world.run_turns()
    assert (fired.channel, fired.chat_id, fired.session_key) == ("loopback", "anna", "cron:0badcafe")
    assert fired.metadata == {"thread": "7"}
    assert (fired.source, fired.trust, fired.deliver) == ("schedule", "owner", True)
    assert fired.text.endswith("\n\nDrink tea")
    assert "Do not schedule it again" in fired.text
    assert (await world.only_job()).last_status == "ok"
    assert "anna" not in await world.store.inbox.chats("loopback")  # a schedule is nobody who wrote


async def test_what_was_set_up_in_a_terminal_goes_to_the_owners_chat(world: World) -> None:
    """To the one that is named, if its channel is on, else to the one that wrote last, else to a terminal."""
    job = replace(JOB, channel="cli", chat_id="direct", metadata={})
    kept = replace(job, id="1badcafe", deliver=False)
    for one in (job, kept):
        await world.book.add(one, every=60)
    targets = []
    for named in ("", "slack:9", "telegram:42", "telegram:"):
        if named == "telegram:":
            wrote = InboundMessage("telegram", "7", "7", "hi", "u1", "telegram:7", sent_at=world.now)
            await world.store.inbox.accept(wrote)
            await world.run_turns()
        world.now, world.deliver_to = world.now + 60, named
        await world.service().fire_due()
        targets.append({(it.channel, it.chat_id, it.deliver) for it in await world.run_turns()})
    stays, terminal = ("cli", "direct", False), ("cli", "direct", True)
    assert targets == [
        *([{stays, terminal}] * 2),
        {stays, ("telegram", "42", True)},
        {stays, ("telegram", "7", True)},
    ]


async def test_a_one_shot_fires_and_is_gone(world: World) -> None:
    await world.book.add(JOB, at="2027-01-15T08:05:00Z")
    world.now += 299
    await world.service().fire_due()
    assert (await world.only_job()).enabled
    world.now += 1
    await world.service().fire_due()
    assert await JobTable(world.store).all() == []
    assert len(await world.run_turns()) == 1


async def test_a_time_in_the_past_is_refused(world: World) -> None:
    with pytest.raises(ScheduleError, match="has passed"):
        await world.book.add(JOB, at="2027-01-15T07:59:00Z")
    assert await JobTable(world.store).all() == []


async def test_exactly_one_kind_of_time(world: World) -> None:
    with pytest.raises(ScheduleError, match="exactly one"):
        await world.book.add(JOB)
    with pytest.raises(ScheduleError, match="exactly one"):
        await world.book.add(JOB, every=60, cron="* * * * *")
    with pytest.raises(ScheduleError, match="cron expression only"):
        await world.book.add(JOB, every=60, tz="UTC")


async def test_after_a_pause_the_newest_slot_fires_and_older_ones_are_recorded(world: World) -> None:
    await world.book.add(JOB, every=1000)
    world.now += 4500
    await world.service().fire_due()
    assert [message.sent_at for message in await world.run_turns()] == [START + 4000]
    job = await world.only_job()
    assert (job.missed, job.last_status, job.next_at) == (3, "ok", START + 5000)


async def test_a_slot_older_than_the_window_is_missed_too(world: World) -> None:
    await world.book.add(JOB, every=10_000)
    world.now += 15_000
    await world.service().fire_due()
    assert await world.run_turns() == []
    job = await world.only_job()
    assert (job.missed, job.last_status, job.enabled, job.next_at) == (1, "skipped", True, START + 20_000)


async def test_without_a_window_a_slot_on_time_still_fires(world: World) -> None:
    await world.book.add(JOB, every=600)
    world.now += 601
    await world.service(catch_up=0).fire_due()
    assert len(await world.run_turns()) == 1


@pytest.mark.parametrize(("late", "fires"), [(3600, True), (3601, False)])
async def test_a_one_shot_missed_while_down(world: World, late: float, fires: bool) -> None:
    await world.book.add(JOB, at="2027-01-15T08:05:00Z")
    world.now += 300 + late
    await world.service().fire_due()
    assert len(await world.run_turns()) == fires
    if not fires:
        job = await world.only_job()
        assert (job.enabled, job.next_at, job.missed, job.last_status) == (False, None, 1, "skipped")


async def test_a_year_of_missed_seconds_is_bounded(world: World) -> None:
    await world.book.add(JOB, every=1)
    world.now += 31_536_000
    await world.service().fire_due()
    assert len(await world.run_turns()) == 1
    assert (await world.only_job()).missed <= 100


async def test_a_slot_is_missed_while_the_one_before_still_waits(world: World) -> None:
    await world.book.add(JOB, every=10)
    service = world.service()
    for _ in range(3):
        world.now += 10
        await service.fire_due()
    assert len(await world.run_turns()) == 1
    assert (await world.only_job()).missed == 2


async def test_a_clock_set_back_neither_repeats_nor_stops_a_job(world: World) -> None:
    await world.book.add(JOB, cron="0 * * * *", tz="UTC")
    service = world.service()
    for passed in (3600.0, 3600.0 * 24 * 365, 7200.0, 10_800.0):
        world.now = START + passed
        await service.fire_due()
        await world.run_turns()
    history = await world.store.sessions.history("cron:0badcafe")
    assert history == []  # run_turns writes none; the slots tell
    world.now = START + 7200
    await world.service().fire_due()
    assert await world.run_turns() == []
    assert (await world.only_job()).next_at == START + 10_800


@pytest.mark.parametrize("restarted", [True, False])
@pytest.mark.parametrize("back", [50, 3000, 86_400, 400 * 86_400])
async def test_an_interval_goes_on_after_the_clock_was_set_back(
    world: World, back: float, restarted: bool
) -> None:
    """Also to before it was made, and to times at which it has run already."""
    await world.book.add(JOB, every=600)
    for _ in range(6):
        world.now += 600
        await world.service().fire_due()
        assert len(await world.run_turns()) == 1
    world.now -= back
    running = world.service()
    await running.fire_due()
    for _ in range(3):
        next_at = (await world.only_job()).next_at
        assert next_at is not None
        assert world.now < next_at <= world.now + 600
        world.now = next_at
        await (world.service() if restarted else running).fire_due()
        assert len(await world.run_turns()) == 1


@pytest.mark.parametrize("restarted", [True, False])
async def test_a_one_shot_survives_a_clock_that_was_wrong_for_a_moment(world: World, restarted: bool) -> None:
    await world.book.add(JOB, at="2027-01-15T08:05:00Z")
    service = world.service()
    await service.fire_due()
    world.now += 10 * 86_400
    await service.fire_due()
    assert (await world.only_job()).last_status == "skipped"
    world.now = START + 60
    await (world.service() if restarted else service).fire_due()
    job = await world.only_job()
    assert (job.enabled, job.next_at) == (True, START + 300)
    world.now = START + 300
    await service.fire_due()
    assert [message.sent_at for message in await world.run_turns()] == [START + 300]
    assert await JobTable(world.store).all() == []


async def test_times_missed_by_a_wrong_clock_are_served_when_they_come(world: World) -> None:
    await world.book.add(JOB, cron="0 * * * *", tz="UTC")
    service = world.service()
    world.now += 5 * 3600 + 1
    await service.fire_due()
    assert [message.sent_at for message in await world.run_turns()] == [START + 5 * 3600]
    world.now = START + 60
    await service.fire_due()
    for hour in (1, 2):
        world.now = START + hour * 3600
        await service.fire_due()
        assert [message.sent_at for message in await world.run_turns()] == [world.now]


async def test_what_the_owner_switched_off_stays_off_when_the_clock_is_set_back(world: World) -> None:
    await world.book.add(JOB, every=60)
    world.now += 30 * 60
    service = world.service(catch_up=0)
    world.now += 120
    await service.fire_due()
    await world.book.enable(JOB.id, False)
    world.now -= 86_400
    await service.fire_due()
    assert not (await world.only_job()).enabled


@pytest.mark.parametrize(
    "body",
    ["{", "[]", "5", '{"message": 1}', '{"name": "x", "message": "m", "schedule": {"kind": "moon"}}'],
)
async def test_a_job_that_cannot_be_read_is_shown_and_stops_no_other(world: World, body: str) -> None:
    await world.book.add(JOB, every=60)
    await world.store.database.change(
        "INSERT INTO jobs (id, enabled, next_at, created_at, body) VALUES ('odd', 1, ?, 0, ?)", START, body
    )
    world.now += 60
    await world.service().fire_due()
    assert [message.session_key for message in await world.run_turns()] == ["cron:0badcafe"]
    odd = await world.book.get("odd")
    assert not odd.enabled
    with pytest.raises((ScheduleError, UsageError), match="cannot"):
        await world.book.enable("odd", True)
    await world.book.remove("odd")
    assert (await world.only_job()).id == JOB.id


async def test_disabled_jobs_rest_and_enabled_ones_begin_anew(world: World) -> None:
    await world.book.add(JOB, every=10)
    await world.book.enable(JOB.id, False)
    world.now += 100
    await world.service().fire_due()
    assert await world.run_turns() == []
    job = await world.book.enable(JOB.id, True)
    assert job.next_at == START + 110
    assert (await world.only_job()).missed == 0


async def test_run_now_is_beside_the_schedule(world: World) -> None:
    await world.book.add(JOB, every=600)
    with pytest.raises(UsageError, match="No gateway is running"):
        await world.book.run_now(JOB.id, force=False)
    assert await world.open().workers.lead()
    await world.book.run_now(JOB.id, force=False)
    assert len(await world.run_turns()) == 1
    assert (await world.only_job()).next_at == START + 600
    await world.book.enable(JOB.id, False)
    with pytest.raises(UsageError, match="--force"):
        await world.book.run_now(JOB.id, force=False)
    world.now += 1
    await world.book.run_now(JOB.id, force=True)
    assert len(await world.run_turns()) == 1
    with pytest.raises(UsageError, match="no job nothing"):
        await world.book.run_now("nothing", force=False)


async def test_a_failed_turn_shows_in_the_job(world: World) -> None:
    await world.book.add(JOB, every=60)
    world.now += 60
    await world.service().fire_due()
    turn = await claim_next(world.store)
    assert turn is not None
    assert (await world.only_job()).last_status == "running"
    await world.store.turns.finish(turn.claim, "error", "The key is wrong.")
    job = await world.only_job()
    assert (job.last_status, job.last_error) == ("error", "The key is wrong.")


async def test_a_job_whose_zone_is_gone_is_switched_off_and_others_run(world: World) -> None:
    broken = {"kind": "cron", "expr": "* * * * *", "tz": "Atlantis/Poseidonis"}
    await JobTable(world.store).insert([replace(JOB, id="broken", schedule=broken, next_at=START)])
    await JobTable(world.store).insert(
        [replace(JOB, schedule=schedule_to_json(Every(60, START - 60)), next_at=START)]
    )
    await world.service().fire_due()
    jobs = await JobTable(world.store).all()
    assert {job.id: job.enabled for job in jobs} == {"broken": False, JOB.id: True}
    assert len(await world.run_turns()) == 1


async def test_a_change_wakes_the_service_at_once(world: World) -> None:
    hub = Hub(world.store)
    other = JobTable(world.open())
    await JobTable(world.store).all()
    service = CronService(
        world.store, hub, partial(import_jobs, world.store, world.home), world.chat, catch_up=3600
    )
    tasks = [asyncio.create_task(service.run()), asyncio.create_task(hub.watch())]
    await other.add(JOB, every=1)
    world.now += 1
    with hub.changes() as changed:
        async with asyncio.timeout(20):
            while not await world.run_turns():
                await wait_for(changed, 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(st.sampled_from("abx"), st.integers(1, 150)), min_size=1, max_size=25),
    st.sampled_from([60, 7, 45]),
)
def test_two_services_never_double_or_lose_a_slot(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], interval: int
) -> None:
    """a and b fire whenever they like, x is both at once; what each sees may be old when it acts."""
    asyncio.run(_race(World(tmp_path_factory.mktemp("home")), steps, interval))


async def _race(world: World, steps: list[tuple[str, int]], interval: int) -> None:
    stores = {"a": world.store, "b": world.open()}
    services = {name: world.service(store, catch_up=10**9) for name, store in stores.items()}
    await world.book.add(JOB, every=interval)
    fired: list[float] = []
    for who, passed in steps:
        world.now += passed
        if who == "x":
            await asyncio.gather(*(service.fire_due() for service in services.values()))
        else:
            await services[who].fire_due()
        fired += [message.sent_at for message in await world.run_turns()]
    await services["a"].fire_due()
    fired += [message.sent_at for message in await world.run_turns()]
    job = await world.only_job()
    slots = [START + n * interval for n in range(1, int((world.now - START) // interval) + 1)]
    assert fired == sorted(set(fired))
    assert set(fired) <= set(slots)
    if len(slots) <= 100:  # older ones are forgotten
        assert len(fired) + job.missed == len(slots)
    assert not slots or fired[-1] == slots[-1]
    for store in world.stores:
        await store.aclose()


FIRE = """
import asyncio, sys
from functools import partial
from pathlib import Path
from nanobot.bus.hub import Hub
from nanobot.cron.service import CronService, owners_chat
from nanobot.legacy.jobs_file import import_jobs
from nanobot.store.store import Store

async def main():
    home = Path(sys.argv[1])
    store = Store(home / "nanobot.db")
    print("ready", flush=True)
    await CronService(
        store,
        Hub(store),
        partial(import_jobs, store, home),
        partial(owners_chat, store, [], ""),
        catch_up=3600,
    ).run()

asyncio.run(main())
"""


async def test_two_processes_and_kill_9_fire_each_slot_once(tmp_path: Path) -> None:
    """Processes fire a job of every second and are killed at random; every slot comes once or is missed."""
    store = Store(tmp_path / "nanobot.db")
    book = JobTable(store)
    job = await book.add(JOB, every=1)
    seen: list[float] = []

    async def serve() -> None:
        while (turn := await claim_next(store)) is not None:
            await store.turns.finish(turn.claim, "done")
            seen.append(turn.inbound.sent_at)

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", textwrap.dedent(FIRE), str(tmp_path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    processes = [start(), start()]
    async with asyncio.timeout(50):
        for kills in range(3):
            wanted = len(seen) + 1
            while len(seen) < wanted:
                await serve()
                await asyncio.sleep(0.01)
            victim = processes[kills % 2]
            victim.send_signal(signal.SIGKILL)
            _end(victim)
            processes[kills % 2] = start()
    for process in processes:
        process.kill()
        _end(process)
    await serve()
    assert job.next_at is not None
    assert seen == sorted(set(seen))
    assert {round(slot - job.next_at, 3) for slot in seen} <= {float(n) for n in range(200)}
    (state,) = await JobTable(store).all()
    assert state.next_at is not None
    assert len(seen) + state.missed == round(state.next_at - job.next_at)
    await store.aclose()


def _end(process: subprocess.Popen[str]) -> None:
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
