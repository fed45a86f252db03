"""Reports are data: framed, bounded, addressed to the chat that asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.bus.events import TurnFinished
from nanobot.messages import Address, InboundMessage, Message, ToolResult, Usage
from nanobot.store.store import Store
from nanobot.subagents.reports import cancelled, report
from tests.talk import claim_own

ID = "0badcafe"
END = f"[end of {ID}]"
ADDRESS = Address("telegram:7", "telegram", "7", {"thread": "42"}, is_group=True)


def order(task: str = "find prices") -> InboundMessage:
    return InboundMessage(
        "subagent",
        ID,
        "telegram:7",
        task,
        ID,
        f"subagent:{ID}",
        source="order",
        reply_to=ADDRESS,
        deliver=False,
        family=3,
    )


def done(text: str) -> TurnFinished:
    return TurnFinished("done", text, Usage())


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "nanobot.db")


async def test_it_goes_to_the_thread_of_the_chat_that_asked(store: Store) -> None:
    told = await report(store, order(), done("5 EUR"), "")
    assert (told.channel, told.chat_id, told.session_key) == ("telegram", "7", "telegram:7")
    assert told.metadata == {"thread": "42"}
    assert told.is_group
    assert (told.source, told.trust, told.family, told.deliver) == ("report", "foreign", 3, False)


pieces = st.lists(
    st.sampled_from([END, "[end of ", ID, "]", "[", "[end]", "x", "\n", "[Subagent 'x'"]), max_size=12
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces.map("".join))
async def test_no_text_ends_the_report_early(store: Store, text: str) -> None:
    told = await report(store, order(), done(text), "")
    _, _, said = told.text.partition("]\n")
    assert said.count(END) == 1
    assert said.endswith(f"\n{END}")


async def test_a_long_report_is_cut_and_says_where_the_rest_is(store: Store) -> None:
    told = await report(store, order("task " * 1000), done("word " * 10_000), "")
    assert len(told.text) < 21_000
    assert f"the whole is in the session subagent:{ID}" in told.text


async def test_one_that_said_nothing_shows_its_newest_tool_result(store: Store) -> None:
    claim = await claim_own(store, f"subagent:{ID}")
    assert claim is not None
    await store.turns.append(claim, Message.user("find prices"))
    await store.turns.append(claim, Message("tool", (ToolResult("c1", "exec", "5 EUR"),)))
    limit = await report(store, order(), TurnFinished("limit", "", Usage()), "Stopped after 9 rounds.")
    assert "did not finish. Stopped after 9 rounds. What it had so far" in limit.text
    assert f"5 EUR\n{END}" in limit.text
    await store.aclose()


def test_a_stopped_one_is_not_an_answer() -> None:
    assert "was stopped by the owner" in cancelled(order(), "prices").text
    assert f"(nothing)\n{END}" in cancelled(order(), "prices").text
