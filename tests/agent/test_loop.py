"""The turn: what it does with answers, tools, errors, limits and cancellation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nanobot.agent.tools import ToolOutput, current_turn, report_output
from nanobot.bus.events import (
    Notice,
    TextDelta,
    TextDiscarded,
    ToolFinished,
    ToolOutputDelta,
    TurnFinished,
    TurnStarted,
    UsageReported,
    event_to_json,
)
from nanobot.errors import OverloadedError, StorageError, ToolError
from nanobot.messages import (
    INTERRUPTED,
    InboundMessage,
    Message,
    ToolCall,
    ToolResult,
    Usage,
    unanswered_calls,
)
from nanobot.providers.base import Completion, ModelRequest, Retrying, TextChunk
from nanobot.providers.scripted import Reply, ScriptedProvider
from nanobot.store.records import Claim, StoredMessage
from nanobot.store.turns import Turns
from tests.agent.harness import KEY, Act, Played, call, is_note, open_turn, play


async def test_a_plain_answer() -> None:
    played = await play([Reply(chunks=["Hel", "lo"], text="Hello", usage=Usage(10, 2))])
    assert [type(event) for event in played.events] == [
        TurnStarted,
        TextDelta,
        TextDelta,
        UsageReported,
        TurnFinished,
    ]
    assert (played.finished.stop_reason, played.finished.text) == ("done", "Hello")
    assert played.finished.usage == Usage(10, 2)
    assert played.recorded == [Message.assistant("Hello")]


async def test_every_event_is_one_json_object_with_its_type() -> None:
    played = await play([Reply(tool_calls=[call("act")]), "done"], [Act("act", lambda **_: "ok")])
    kinds = [event_to_json(event)["type"] for event in played.events]
    assert kinds[0] == "turn_started"
    assert kinds[-1] == "turn_finished"
    assert {"tool_started", "tool_finished", "usage", "text_delta"} <= set(kinds)


async def test_a_tool_is_run_and_its_result_goes_back() -> None:
    played = await play(
        [Reply(text="Looking.", tool_calls=[call("look", value="x")]), "found"],
        [Act("look", lambda value: f"<{value}>", read=True)],
    )
    assert played.finished.text == "found"
    assert [message.role for message in played.recorded] == ["assistant", "tool", "assistant"]
    assert played.provider.requests[1].messages[-1].tool_results[0].content == "<x>"
    (finished,) = played.of(ToolFinished)
    assert (finished.name, finished.outcome, finished.preview) == ("look", "ok", "<x>")


async def test_reads_run_side_by_side_and_effects_in_order() -> None:
    both_started = asyncio.Barrier(2)
    order: list[str] = []

    async def read(**_: object) -> str:
        await asyncio.wait_for(both_started.wait(), 5)
        return "read"

    async def effect(value: str) -> str:
        order.append(f"begin {value}")
        await asyncio.sleep(0)
        order.append(f"end {value}")
        return value

    calls = [call("read", "r1"), call("read", "r2"), call("do", "d1", value="a"), call("do", "d2", value="b")]
    played = await play([Reply(tool_calls=calls), "ok"], [Act("read", read, read=True), Act("do", effect)])
    assert order == ["begin a", "end a", "begin b", "end b"]
    assert [result.call_id for result in played.results] == ["r1", "r2", "d1", "d2"]
    assert played.intended == {"d1", "d2"}


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ToolError("no such file"), "Error: no such file"),
        (ValueError("boom"), "Error: act failed: ValueError: boom"),
        (SystemExit(3), "Error: act failed: SystemExit: 3"),
    ],
)
async def test_a_failing_tool_is_an_error_the_model_reads(error: BaseException, shown: str) -> None:
    def fail(**_: object) -> str:
        raise error

    played = await play([Reply(tool_calls=[call("act")]), "sorry"], [Act("act", fail)])
    (result,) = played.results
    assert (result.outcome, result.content) == ("error", shown)
    assert played.finished.stop_reason == "done"


async def test_an_unknown_tool_and_malformed_arguments_are_answered_not_run() -> None:
    ran: list[str] = []
    calls = [call("nope", "c1"), ToolCall("c2", "act", {}, malformed='{"value": ')]
    played = await play([Reply(tool_calls=calls), "ok"], [Act("act", lambda **_: ran.append("x"))])
    assert [result.outcome for result in played.results] == ["error", "error"]
    assert ran == []


async def test_wrong_arguments_are_explained() -> None:
    played = await play(
        [Reply(tool_calls=[ToolCall("c", "act", {"value": [1]})]), "ok"], [Act("act", lambda **_: "")]
    )
    assert "value" in played.results[0].content
    assert played.results[0].outcome == "error"


async def test_a_result_that_starts_with_error_counts_as_one() -> None:
    played = await play([Reply(tool_calls=[call("act")]), "ok"], [Act("act", lambda **_: "Error: no")])
    assert played.results[0].outcome == "error"


async def test_a_huge_result_is_cut_in_the_middle() -> None:
    played = await play(
        [Reply(tool_calls=[call("act")]), "ok"], [Act("act", lambda **_: "a" * 100_000 + "THE END")]
    )
    content = played.results[0].content
    assert len(content) < 70_000
    assert content.endswith("THE END")


async def test_tools_know_their_turn_and_report_live_output() -> None:
    def work(**_: object) -> str:
        report_output("half ")
        return current_turn().session_key

    played = await play([Reply(tool_calls=[call("act", "c1")]), "ok"], [Act("act", work)])
    assert played.results[0].content == "cli:direct"
    assert played.of(ToolOutputDelta) == [ToolOutputDelta("c1", "half ")]


async def test_whose_words_a_result_is_and_how_a_command_ended_are_told() -> None:
    class Page(Act):
        origin = "page"

    tools = [
        Page("fetch", lambda **_: "words of a page"),
        Page("sent", lambda **_: ToolOutput("words of a mail", origin="mail")),
        Act("exec", lambda **_: ToolOutput("no", exit_code=3)),
    ]
    calls = [call(name) for name in ("fetch", "sent", "exec", "nothing")]
    played = await play([Reply(tool_calls=calls), "ok"], tools)
    assert [result.origin for result in played.results] == ["page", "mail", "tool", "tool"]
    assert [event.exit_code for event in played.of(ToolFinished)] == [None, None, 3, None]


async def test_repeated_ids_are_made_unique() -> None:
    steps = [Reply(tool_calls=[call("act", "same")]), Reply(tool_calls=[call("act", "same")]), "ok"]
    played = await play(steps, [Act("act", iter("ab").__next__ and (lambda **_: "x"))])
    ids = [c.id for message in played.recorded for c in message.tool_calls]
    assert len(set(ids)) == 2
    assert unanswered_calls(played.recorded) == []


async def test_missing_and_repeated_ids_of_one_answer_too_and_the_same_way_on_replay() -> None:
    history = [
        Message.user("x"),
        Message.assistant("", call("act", "c1")),
        Message("tool", (ToolResult("c1", "act", "r"),)),
        Message.assistant("y"),
    ]
    calls = [ToolCall(given, "act", {}) for given in ("c1", "c9", "c9", "")]

    async def ids() -> list[str]:
        steps = ScriptedProvider(
            lambda request: "ok" if len(request.messages) > 5 else Reply(tool_calls=calls)
        )
        played = await play(steps, [Act("act", lambda **_: "x")], earlier=history)
        assert [result.call_id for result in played.results] == [
            made.id for message in played.recorded for made in message.tool_calls
        ]
        return [result.call_id for result in played.results]

    first = await ids()
    assert len({*first, "c1"}) == 5
    assert "" not in first
    assert first[1] == "c9"
    assert await ids() == first


# -- limits and loops


async def test_the_iteration_limit_ends_the_turn_with_a_reason() -> None:
    counter = iter(range(100))
    played = await play(
        ScriptedProvider(lambda request: Reply(tool_calls=[call("act", value=str(next(counter)))])),
        [Act("act", lambda value: value)],
        max_iterations=3,
    )
    assert played.finished.stop_reason == "limit"
    assert len(played.provider.requests) == 3
    assert "maxToolIterations" in played.of(Notice)[-1].text
    assert unanswered_calls(played.recorded) == []


async def test_a_loop_is_told_to_the_model_and_then_stopped() -> None:
    played = await play(
        ScriptedProvider(lambda request: Reply(tool_calls=[call("act", value="same")])),
        [Act("act", lambda value: "same result")],
    )
    assert played.finished.stop_reason == "limit"
    assert len(played.provider.requests) == 4
    notice = played.provider.requests[3].messages[-1]
    assert "same tool call" in str(notice.parts)


async def test_the_same_call_with_new_results_is_no_loop() -> None:
    results = iter(range(100))
    steps = [Reply(tool_calls=[call("poll")]) for _ in range(6)]
    played = await play([*steps, "ready"], [Act("poll", lambda **_: str(next(results)))])
    assert played.finished.stop_reason == "done"


async def test_the_deadline_stops_a_hanging_tool_and_closes_the_history() -> None:
    played = await play(
        [Reply(tool_calls=[call("hang")])],
        [Act("hang", lambda **_: asyncio.sleep(60))],
        seconds=0.05,
    )
    assert played.finished.stop_reason == "limit"
    assert unanswered_calls(played.recorded) == []


# -- errors


async def test_an_error_is_an_event_and_never_assistant_text() -> None:
    played = await play([Reply(text="I was about", error=OverloadedError("Overloaded. Try later."))])
    finished = played.finished
    assert (finished.stop_reason, finished.error_type) == ("error", "OverloadedError")
    assert finished.error == "Overloaded. Try later."
    assert finished.text == ""
    (note,) = played.recorded
    assert is_note(note, "this turn failed before it was finished")


async def test_an_empty_answer_is_asked_again_and_then_an_error() -> None:
    played = await play(["", "there"])
    assert played.finished.text == "there"
    played = await play(["", ""])
    assert played.finished.error_type == "BrokenStreamError"
    assert [message.role for message in played.recorded] == ["user"]


@pytest.mark.parametrize("reason", ["length", "refusal"])
async def test_calls_of_an_unfinished_answer_are_never_run(reason: str) -> None:
    ran: list[str] = []
    reply = Reply(text="partly", tool_calls=[call("act")], finish_reason=reason)  # type: ignore[arg-type]
    played = await play([reply], [Act("act", lambda **_: ran.append("x"))])
    assert ran == []
    assert played.finished.stop_reason == "done"
    assert played.recorded == [Message.assistant("partly")]
    assert played.of(Notice)


async def test_a_retry_discards_what_was_shown() -> None:
    class Flaky(ScriptedProvider):
        async def stream(self, request: ModelRequest):  # type: ignore[no-untyped-def]
            yield TextChunk("wrong ")
            yield Retrying("The connection broke.", 1.0, discard=True)
            yield TextChunk("right")
            yield Completion(Message.assistant("right"), Usage(), "stop")

    played = await play(Flaky([]))
    kinds = [type(event) for event in played.events]
    assert kinds.index(TextDiscarded) < kinds.index(Notice)
    assert played.finished.text == "right"


async def test_a_failing_store_ends_the_turn_with_its_error() -> None:
    class Full(Turns):
        async def append(self, claim: Claim, *messages: Message) -> list[StoredMessage]:
            if messages[0].role != "user":
                raise StorageError("The disk is full.")
            return await super().append(claim, *messages)

    played = await play([Reply(tool_calls=[call("act")]), "hello"], [Act("act", lambda **_: "x")], turns=Full)
    assert (played.finished.stop_reason, played.finished.error) == ("error", "The disk is full.")


# -- cancelling


async def cancelled_at(event: type, steps: object, tools: Sequence[Act] = ()) -> Played:
    """Run a turn in a task and cancel the task at the first event of a kind."""
    async with open_turn(steps, tools) as opened:
        task = asyncio.create_task(opened.run())
        async with asyncio.timeout(5):
            while not any(isinstance(seen, event) for seen in opened.events):  # noqa: ASYNC110
                await asyncio.sleep(0)
        task.cancel()
        await task
        return await opened.played()


async def test_cancelling_while_the_model_speaks_keeps_what_was_said() -> None:
    played = await cancelled_at(TextDelta, [Reply(text="Once upon", wait=asyncio.Event())])
    assert (played.finished.stop_reason, played.finished.text) == ("cancelled", "Once upon")
    said, note = played.recorded
    assert said == Message.assistant("Once upon")
    assert is_note(note, "this turn was stopped before it was finished")


async def test_cancelling_a_tool_leaves_a_valid_history() -> None:
    stopped = asyncio.Event()

    async def hang(**_: object) -> str:
        report_output("begun")
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()
        return ""

    calls = [call("hang", "c1"), call("hang", "c2")]
    played = await cancelled_at(ToolOutputDelta, [Reply(tool_calls=calls)], [Act("hang", hang)])
    assert played.finished.stop_reason == "cancelled"
    assert stopped.is_set()
    assert unanswered_calls(played.recorded) == []
    assert [result.outcome for result in played.results] == ["cancelled", "cancelled"]


async def test_cancelling_again_and_again_stops_the_turn_once_and_leaves_its_task_whole() -> None:
    cleaned_up = asyncio.Event()

    async def hang(**_: object) -> str:
        report_output("begun")
        try:
            await asyncio.sleep(60)
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)  # cleaning up is slow, and is cut short
            cleaned_up.set()
        return ""

    async with open_turn([Reply(tool_calls=[call("hang")])], [Act("hang", hang)]) as opened:

        async def run() -> int:
            await opened.run()
            task = asyncio.current_task()
            async with asyncio.timeout(5):  # which a task that is still being cancelled could not do
                await asyncio.sleep(0)
            return task.cancelling() if task else 1

        task = asyncio.create_task(run())
        async with asyncio.timeout(5):
            while not any(isinstance(seen, ToolOutputDelta) for seen in opened.events):  # noqa: ASYNC110
                await asyncio.sleep(0)
            task.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            task.cancel()
            assert await task == 0
        assert cleaned_up.is_set()
        played = await opened.played()
    assert played.finished.stop_reason == "cancelled"
    assert unanswered_calls(played.recorded) == []


async def test_a_handed_over_turn_is_left_open() -> None:
    handed_over = asyncio.Event()
    started = asyncio.Event()

    async def hang(**_: object) -> None:
        started.set()
        await asyncio.sleep(60)

    steps = [Reply(tool_calls=[call("hang", "c1")])]
    async with open_turn(steps, [Act("hang", hang)], handed_over=handed_over) as opened:
        task = asyncio.create_task(opened.run())
        await asyncio.wait_for(started.wait(), 5)
        handed_over.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        played = await opened.played()
    assert [open_call.id for open_call in unanswered_calls(played.recorded)] == ["c1"]


# -- resuming


async def test_resuming_reuses_results_reruns_reads_and_reports_the_rest() -> None:
    ran: list[str] = []
    calls = [call("read", "r1"), call("read", "r2"), call("send", "s1"), call("send", "s2")]
    recorded = [
        Message.user("go"),
        Message.assistant("", *calls),
        Message("tool", (ToolResult("r1", "read", "recorded"),)),
    ]
    played = await play(
        ["all done"],
        [
            Act("read", lambda **_: ran.append("read") or "again", read=True),
            Act("send", lambda **_: ran.append("send") or "sent"),
        ],
        recorded,
        intended=["s1"],
    )
    assert ran == ["read", "send"]
    by_id = {result.call_id: result for result in played.results}
    assert set(by_id) == {"r2", "s1", "s2"}
    assert by_id["r2"].content == "again"
    assert (by_id["s1"].outcome, by_id["s1"].content) == ("interrupted", INTERRUPTED)
    assert by_id["s2"].outcome == "ok"
    assert played.finished.text == "all done"


async def test_resuming_an_answered_turn_asks_nothing_again() -> None:
    played = await play([], (), [Message.user("go"), Message.assistant("answered")])
    assert played.finished.stop_reason == "done"
    assert played.finished.text == "answered"
    assert played.provider.requests == []


async def test_what_waits_joins_after_the_tools_until_something_needs_a_turn_of_its_own() -> None:
    first = InboundMessage("cli", "direct", "owner", "go", "m1", KEY)
    steps = [Reply(tool_calls=[call("act")]), "ok"]
    async with open_turn(steps, [Act("act", lambda **_: "x")], answers=first) as opened:
        for number, text in enumerate(("also this", "and this", "/new", "not this"), 2):
            await opened.store.inbox.accept(replace(first, text=text, external_id=f"m{number}"))
        await opened.run()
        played = await opened.played()
    assert [message.text for message in played.provider.requests[1].messages[-2:]] == [
        "also this",
        "and this",
    ]
    assert [message.text for message in played.recorded if message.role == "user"] == [
        "also this",
        "and this",
    ]
