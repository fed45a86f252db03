"""What a model is shown of a conversation: it fits, it is valid, and it keeps its beginning."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.agent.digest import digest
from nanobot.agent.window import SPARE_MESSAGES, Conversation, Limits, Summarise, read_record, size_of
from nanobot.errors import ProviderError
from nanobot.messages import ContextPart, ContextUse, ImagePart, Message, TextPart, ToolCall, ToolResult
from nanobot.store.records import Claim, StoredMessage, Window
from nanobot.store.store import Store
from tests.talk import claim_own

KEY = "cli:direct"
PIXEL = ImagePart("image/png", "aGVsbG8=")
Step = Sequence[int]  # the lengths of the results of its calls


def limits(window: int, *, messages: int = 100, fixed: int = 0) -> Limits:
    return Limits(window=window, answer=window // 10, fixed=fixed, messages=messages)


async def write_turn(
    store: Store, asked: Message, steps: Sequence[Step], answer: str | None, base: int = 0
) -> Claim:
    """A turn with tool calls; without an `answer` it still runs."""
    claim = await claim_own(store, KEY)
    assert claim is not None
    await store.turns.append(claim, asked)
    for number, results in enumerate(steps):
        ids = [f"c{claim.turn_id}-{number}-{index}" for index in range(len(results))]
        calls = [ToolCall(call_id, "read_file", {"path": f"{call_id}.txt"}) for call_id in ids]
        await store.turns.append(claim, Message.assistant(f"step {number}", *calls))
        for call_id, length in zip(ids, results, strict=True):
            await store.turns.append(
                claim, Message("tool", (ToolResult(call_id, "read_file", "r" * length),))
            )
    if answer is not None:
        await store.turns.append(claim, Message.assistant(answer))
        await store.turns.finish(claim, "done")
    return claim


async def opened(
    store: Store, claim: Claim | None, limit: Limits, summarise: Summarise | None = None
) -> Conversation:
    session = await store.sessions.open(KEY, limit.messages + SPARE_MESSAGES)
    return Conversation(store, claim or Claim(0, KEY, 0, ""), limit, summarise, session)


async def fit(conversation: Conversation, *, too_long: bool = False) -> tuple[list[Message], list[str]]:
    notices: list[str] = []
    return await conversation.fit(notices.append, too_long=too_long), notices


def assert_valid(messages: Sequence[Message]) -> None:
    """Every call is followed by its one result before anybody speaks again, and no result stands alone."""
    waiting: list[str] = []
    for message in messages:
        if message.role == "tool":
            (result,) = message.tool_results
            assert waiting.pop(0) == result.call_id
        else:
            assert waiting == []
            waiting = [call.id for call in message.tool_calls]
    assert waiting == []


steps = st.lists(st.lists(st.integers(0, 6_000), min_size=1, max_size=3), max_size=4)
turns = st.lists(st.tuples(st.integers(1, 3_000), steps, st.integers(1, 3_000)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    earlier=turns,
    running=st.tuples(st.integers(1, 3_000), steps),
    window=st.integers(100, 12_000),
    messages=st.integers(1, 30),
    refusals=st.integers(0, 2),
)
def test_any_history_becomes_a_valid_request_that_fits_or_says_so(
    earlier: list[tuple[int, list[Step], int]],
    running: tuple[int, list[Step]],
    window: int,
    messages: int,
    refusals: int,
) -> None:
    async def check(home: Path) -> None:
        store = Store(home / "nanobot.db")
        for asked, taken, answered in earlier:
            await write_turn(store, Message.user("q" * asked), taken, "a" * answered)
        claim = await write_turn(store, Message.user("Q" * running[0]), running[1], None)
        record = await store.sessions.history(KEY)
        limit = limits(window, messages=messages)
        conversation = await opened(store, claim, limit)
        shown, notices = await fit(conversation)
        for _ in range(refusals):
            before = shown
            shown, notices = await fit(conversation, too_long=True)
            assert size_of(shown) <= size_of(before) + 300  # a note may come
        assert_valid(shown)
        assert Message.user("Q" * running[0]) in shown
        room = (window - min(window // 10, window // 4)) * 0.9 * 4 * 0.75**refusals
        assert size_of(shown) <= room or "more than the model can take" in notices[-1]
        again = await opened(store, claim, limit)  # another worker goes on
        assert again.shown() == shown
        if not refusals:
            assert await fit(again) == (shown, []) or "more than the model" in notices[-1]
        assert await store.sessions.history(KEY) == record
        await store.aclose()

    with tempfile.TemporaryDirectory() as home:
        asyncio.run(check(Path(home)))


@pytest.fixture
async def store(tmp_path: Path):  # type: ignore[no-untyped-def]
    store = Store(tmp_path / "nanobot.db")
    yield store
    await store.aclose()


async def test_old_results_are_shortened_before_anything_leaves_and_can_be_read(store: Store) -> None:
    for number in range(4):
        await write_turn(store, Message.user(f"question {number}"), [[8_000]], "done")
    claim = await write_turn(store, Message.user("and now?"), [], None)
    conversation = await opened(store, claim, limits(8_000))
    shown, notices = await fit(conversation)
    assert notices == []
    assert conversation.window == Window(start=0, shortened=16, conversation=1)
    assert [message.text for message in shown if message.role == "user"] == [
        *(f"question {number}" for number in range(4)),
        "and now?",
    ]
    results = [message.tool_results[0].content for message in shown if message.tool_results]
    assert all(len(result) < 1_300 for result in results)
    assert "read_file with the path record:3 shows the whole" in results[0]
    record = await read_record(store, KEY, 3)
    assert record is not None
    assert "r" * 8_000 in record.text
    assert await read_record(store, KEY, 99) is None


async def test_a_summary_takes_the_place_of_turns_and_grows_no_further_than_its_share(
    store: Store,
) -> None:
    class Sentence:
        asked: list[list[int]] = []  # noqa: RUF012

        async def summarise(self, session_key: str, messages: Sequence[StoredMessage]) -> str:
            self.asked.append([message.seq for message in messages])
            return f"They spoke of {messages[0].message.text[:10]}. " + "x" * 1_500

    summariser = Sentence()
    for number in range(60):
        claim = await write_turn(store, Message.user(f"topic {number} " + "q" * 700), [], None)
        conversation = await opened(store, claim, limits(4_000), summariser.summarise)
        shown, notices = await fit(conversation)
        assert size_of(shown) <= 4_000 * 4
        await store.turns.append(claim, Message.assistant("a" * 700))
        await store.turns.finish(claim, "done")
    seqs = [seq for part in summariser.asked for seq in part]
    assert seqs == [*range(1, seqs[-1] + 1)]  # everything once, in order
    assert len(summariser.asked) > 4
    assert notices in ([], ["Compacting the conversation: a summary takes the place of earlier messages."])
    window = (await store.sessions.open(KEY)).window
    assert window.start == seqs[-1]
    assert "They spoke of topic" in window.summary
    assert len(window.summary.encode()) <= 6_000
    note = shown[0].parts[0]
    assert isinstance(note, ContextPart)
    assert f"up to message {window.start} in short" in note.text


async def test_a_summary_that_fails_is_replaced_by_a_digest(store: Store) -> None:
    class Broken:
        async def summarise(self, session_key: str, messages: Sequence[StoredMessage]) -> str:
            raise ProviderError("no")

    await write_turn(store, Message.user("Where is the key?\nPlease."), [[10, 10], [10]], "Under the mat.")
    await write_turn(store, Message.user("Thanks"), [], "Welcome.")
    conversation = await opened(store, None, limits(4_000), Broken().summarise)
    await conversation.compact()
    assert conversation.window.start == 7
    for words in ("#1] asked: Where is the key?", "read_file ×3, on c1-0-0.txt", "answered: Under the mat."):
        assert words in conversation.window.summary
    assert conversation.shown()[1:] == [Message.user("Thanks"), Message.assistant("Welcome.")]
    before = conversation.window
    await conversation.compact()
    assert conversation.window == before


async def test_summaries_of_summaries_keep_the_beginning_and_the_end(store: Store) -> None:
    class Wordy:
        async def summarise(self, session_key: str, messages: Sequence[StoredMessage]) -> str:
            return f"First {messages[0].seq}. {'x' * 9_000} Last {messages[-1].seq}."

    for number in range(3):
        await write_turn(store, Message.user(f"{number}"), [], "ok")
        await write_turn(store, Message.user(f"{number}, again"), [], "ok")
        conversation = await opened(store, None, limits(20_000), Wordy().summarise)
        await conversation.compact()
        assert len(conversation.window.summary.encode()) <= 6_000
    for words in ("First 7.", "Last 10."):
        assert words in conversation.window.summary
    tiny = await opened(store, None, limits(2_000, fixed=10_000), Wordy().summarise)
    await tiny.compact()
    assert tiny.window == conversation.window
    await write_turn(store, Message.user("more"), [], "ok")
    tiny = await opened(store, None, limits(2_000, fixed=10_000), Wordy().summarise)
    await tiny.compact()
    assert len(tiny.window.summary) < 10


def test_a_digest_of_thousands_of_messages_is_short_and_of_nothing_is_empty() -> None:
    many = [StoredMessage(n, n, 0.0, Message.user(f"question {n}")) for n in range(1, 5_001)]
    short = digest(many)
    assert "question 1\n" in short
    assert short.endswith("question 5000")
    assert len(short) < 3_000
    assert digest([]) == ""


async def test_one_turn_may_outgrow_the_window_by_itself(store: Store) -> None:
    claim = await write_turn(store, Message.user("read everything"), [], None)
    conversation = await opened(store, claim, limits(4_000))
    starts = set()
    for number in range(60):
        call = ToolCall(f"c{number}", "read_file", {"path": f"{number}.txt"})
        result = Message("tool", (ToolResult(call.id, "read_file", f"{number} " + "r" * 3_000),))
        await conversation.append(Message.assistant("", call), result)
        shown, _ = await fit(conversation)
        assert_valid(shown)
        assert size_of(shown) <= 4_000 * 4
        assert shown[-1] == result
        assert Message.user("read everything") in shown
        starts.add(conversation.window.start)
    assert 2 < len(starts) < 20
    assert "0.txt" in conversation.window.summary


async def test_somebody_else_may_compact_it_meanwhile(store: Store) -> None:
    await write_turn(store, Message.user("old"), [], "old answer")
    await write_turn(store, Message.user("older"), [], "answer")
    conversation = await opened(store, None, limits(4_000))
    theirs = conversation.window._replace(start=4)
    assert await store.sessions.move_window(conversation.window, theirs)
    await conversation.compact()
    assert conversation.window == theirs
    assert conversation.shown() == []


async def test_images_are_seen_once_and_named_later(store: Store) -> None:
    asked = Message("user", (ContextPart("[attached image/png: /media/cat.png]\n"), TextPart("what?"), PIXEL))
    claim = await write_turn(store, asked, [], None)
    (shown,) = (await opened(store, claim, limits(4_000))).shown()
    assert PIXEL in shown.parts
    await store.turns.finish(claim, "error")
    claim = await write_turn(store, Message.user("again"), [], None)  # the model had failed: it sees it now
    first, *_ = (await opened(store, claim, limits(4_000))).shown()
    assert PIXEL in first.parts
    await store.turns.append(claim, Message.assistant("a cat"))
    await store.turns.finish(claim, "done")
    claim = await write_turn(store, Message.user("thanks"), [], None)
    first, *_ = (await opened(store, claim, limits(4_000))).shown()
    assert PIXEL not in first.parts
    words = "".join(part.text for part in first.parts if isinstance(part, ContextPart))
    assert "/media/cat.png" in words
    assert "record:1 shows it again" in words
    record = await read_record(store, KEY, 1)
    assert record is not None
    assert record.images == (PIXEL,)


async def test_an_image_that_made_two_turns_fail_is_not_sent_a_third_time(store: Store) -> None:
    for text in ("look", "again"):
        claim = await write_turn(
            store, Message.user(text, PIXEL) if text == "look" else Message.user(text), [], None
        )
        await store.turns.finish(claim, "error")
    claim = await write_turn(store, Message.user("and now?"), [], None)
    shown = (await opened(store, claim, limits(4_000))).shown()
    assert all(PIXEL not in message.parts for message in shown)


async def test_a_provider_that_counts_more_is_believed(store: Store) -> None:
    claim = await write_turn(store, Message.user("hello"), [], None)
    await store.turns.finish(claim, "done", used=ContextUse(tokens=3_000, estimated=1_500))
    for number in range(3):
        await write_turn(store, Message.user(f"{number}" * 3_000), [], "ok")
    claim = await write_turn(store, Message.user("now"), [], None)
    conversation = await opened(store, claim, limits(4_000))
    await fit(conversation)
    assert conversation.window.start > 0
