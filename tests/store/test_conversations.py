"""Each /new is a conversation of its own; a fork shares what was said before it, and no more."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.memory.consolidation_table import ConsolidationTable
from nanobot.messages import Message
from nanobot.store.records import Claim
from nanobot.store.store import Store
from tests.store.conftest import Clock
from tests.talk import claim_own

KEY = "cli:direct"


async def begin(store: Store) -> Claim:
    claim = await claim_own(store, KEY)
    assert claim is not None
    return claim


async def say(store: Store, *texts: str) -> None:
    claim = await begin(store)
    await store.turns.append(claim, *map(Message.user, texts))
    await store.turns.finish(claim, "done")


async def seen(store: Store) -> list[str]:
    return [entry.message.text for entry in (await store.sessions.open(KEY, 1_000)).messages]


async def test_any_of_many_can_go_on_and_none_runs_into_another(store: Store, clock: Clock) -> None:
    for topic in ("alpha", "beta", "gamma"):
        await store.conversations.begin(KEY)
        await say(store, topic, f"more {topic}")
    listed = await store.conversations.newest()
    assert [(info.title, info.messages) for info in listed] == [("gamma", 2), ("beta", 2), ("alpha", 2)]
    await store.conversations.go_on(listed[2].id)
    clock.now += 1
    await say(store, "alpha again")
    assert await seen(store) == ["alpha", "more alpha", "alpha again"]
    assert [info.title for info in await store.conversations.newest()] == ["alpha", "gamma", "beta"]
    assert len(await store.sessions.history(KEY)) == 7


async def test_going_on_with_the_present_one_owes_memory_nothing(store: Store) -> None:
    await say(store, "hello")
    (present,) = await store.conversations.newest()
    await store.conversations.go_on(present.id)
    assert not await ConsolidationTable(store.database).is_due(100)


async def test_an_empty_one_is_not_left_behind(store: Store) -> None:
    await say(store, "alpha")
    await store.conversations.begin(KEY)
    await store.conversations.begin(KEY)
    assert len(await store.conversations.newest()) == 2
    await store.conversations.go_on(1)
    assert [info.title for info in await store.conversations.newest()] == ["alpha"]


async def test_a_turn_stays_in_the_conversation_in_which_it_began(store: Store) -> None:
    await say(store, "alpha")
    claim = await begin(store)
    await store.turns.append(claim, Message.user("still alpha"))
    await store.conversations.begin(KEY)
    await store.turns.append(claim, Message.assistant("yes, alpha"))
    assert await seen(store) == ["alpha", "still alpha", "yes, alpha"]
    await store.turns.finish(claim, "done")
    assert await seen(store) == []


async def test_a_fork_of_a_summarised_conversation_has_the_summary(store: Store) -> None:
    await say(store, "a", "b", "c", "d")
    before = (await store.sessions.open(KEY)).window
    await store.sessions.move_window(before, before._replace(start=2, summary="a and b"))
    await store.conversations.fork(before.conversation, 3)
    window = (await store.sessions.open(KEY)).window
    assert (window.start, window.summary, await seen(store)) == (2, "a and b", ["c"])
    await store.conversations.fork(before.conversation, 2)  # back into what was summarised
    assert ((await store.sessions.open(KEY)).window.summary, await seen(store)) == ("", ["a", "b"])


_STEPS = st.one_of(
    st.tuples(st.just("say"), st.just(0)),
    st.tuples(st.just("new"), st.just(0)),
    st.tuples(st.just("go on"), st.integers(0, 20)),
    st.tuples(st.just("fork"), st.integers(0, 20)),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEPS, max_size=25))
async def test_each_shows_exactly_what_was_said_in_it(
    steps: list[tuple[str, int]], tmp_path_factory: object
) -> None:
    """Against lists of words, however often it is forked and gone back to."""
    store = Store(tmp_path_factory.mktemp("home") / "nanobot.db")  # type: ignore[attr-defined]
    await say(store, "0")
    now, number = 1, 1
    said: dict[int, list[tuple[int, str]]] = {1: [(1, "0")]}
    try:
        for step, choice in steps:
            if step == "say":
                await say(store, str(number))
                said[now].append((number + 1, str(number)))
                number += 1
            elif step == "new":
                await store.conversations.begin(KEY)
                if said[now]:
                    now = max(said) + 1
                    said[now] = []
            elif step == "go on":
                now = sorted(said)[choice % len(said)]
                await store.conversations.go_on(now)
            elif said[now]:
                seq = said[now][choice % len(said[now])][0]
                await store.conversations.fork(now, seq)
                said[max(said) + 1] = [one for one in said[now] if one[0] <= seq]
                now = max(said)
            assert await seen(store) == [text for _, text in said[now]]
        listed = await store.conversations.newest(1_000)
        assert {info.id for info in listed} == {number for number in said if said[number] or number == now}
        for info in listed:
            stored = await store.conversations.messages(info.id, 0, 1_000)
            assert [entry.message.text for entry in stored] == [text for _, text in said[info.id]]
            assert info.messages == len(said[info.id])
    finally:
        await store.aclose()
