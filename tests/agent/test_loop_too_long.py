"""What the loop does when the provider says that a request is too long."""

from __future__ import annotations

from nanobot.agent.window import size_of
from nanobot.bus.events import Notice, TextDiscarded
from nanobot.errors import ContextTooLongError
from nanobot.messages import Message, Usage
from nanobot.providers.scripted import Reply
from tests.agent.harness import play

TOO_LONG = ContextTooLongError("Acme cannot read that much. Begin anew with /new.")


HISTORY = [
    Message.user("a" * 4_000),
    Message.assistant("b" * 4_000),
    Message.user("c" * 4_000),
    Message.assistant("d" * 4_000),
]
ASKED = Message.user("e")


async def test_without_anything_to_leave_out_the_error_stands() -> None:
    played = await play([Reply(error=TOO_LONG), "never"], messages=[ASKED])
    assert (played.finished.error_type, played.finished.error) == ("ContextTooLongError", str(TOO_LONG))
    assert len(played.provider.requests) == 1


async def test_it_asks_once_more_with_less_and_takes_back_what_was_said() -> None:
    half = Reply(chunks=("Half an ans",), error=TOO_LONG)
    whole = Reply(text="Whole.", usage=Usage(input_tokens=42))
    played = await play([half, whole], earlier=HISTORY, messages=[ASKED])
    assert (played.finished.stop_reason, played.finished.text) == ("done", "Whole.")
    assert played.finished.context.tokens == 42
    first, second = (request.messages for request in played.provider.requests)
    assert first == (*HISTORY, ASKED)
    assert second[-1] == ASKED
    assert size_of(second) <= size_of(first) * 3 // 4
    assert len(played.of(TextDiscarded)) == 1
    assert "a summary takes the place" in next(event.text for event in played.of(Notice))
    assert played.recorded == [Message.assistant("Whole.")]


async def test_it_asks_no_third_time() -> None:
    twice = [Reply(error=TOO_LONG), Reply(error=TOO_LONG), "never"]
    played = await play(twice, earlier=HISTORY, messages=[ASKED])
    assert played.finished.error == str(TOO_LONG)
    assert len(played.provider.requests) == 2
