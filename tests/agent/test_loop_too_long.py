"""What the loop does when the provider says that a request is too long."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanobot.bus.events import Notice, TextDiscarded
from nanobot.errors import ContextTooLongError
from nanobot.messages import Message, Usage
from nanobot.providers.scripted import Reply
from tests.agent.harness import play

TOO_LONG = ContextTooLongError("Acme cannot read that much. Begin anew with /new.")


class Halving:
    """Shows the newer half of what it showed last when that was too long."""

    def __init__(self) -> None:
        self.asked: list[bool] = []
        self._share = 1

    async def __call__(
        self, messages: Sequence[Message], *, too_long: bool, notify: Callable[[str], None]
    ) -> Sequence[Message]:
        self.asked.append(too_long)
        if too_long:
            notify("shortening")
            self._share *= 2
        return messages[-max(1, len(messages) // self._share) :]


HISTORY = [
    Message.user("a"),
    Message.assistant("b"),
    Message.user("c"),
    Message.assistant("d"),
    Message.user("e"),
]


async def test_without_anything_to_leave_out_the_error_stands() -> None:
    played = await play([Reply(error=TOO_LONG), "never"])
    assert (played.finished.error_type, played.finished.error) == ("ContextTooLongError", str(TOO_LONG))
    assert len(played.provider.requests) == 1


async def test_it_asks_once_more_with_less_and_takes_back_what_was_said() -> None:
    fit = Halving()
    half = Reply(chunks=("Half an ans",), error=TOO_LONG)
    played = await play([half, Reply(text="Whole.", usage=Usage(input_tokens=42))], messages=HISTORY, fit=fit)
    assert (played.finished.stop_reason, played.finished.text) == ("done", "Whole.")
    assert played.finished.context.tokens == 42
    assert [request.messages for request in played.provider.requests] == [tuple(HISTORY), tuple(HISTORY[-2:])]
    assert fit.asked == [False, True]
    assert len(played.of(TextDiscarded)) == 1
    assert next(event.text for event in played.of(Notice)) == "shortening"
    assert played.journal.messages == [Message.assistant("Whole.")]


async def test_it_asks_no_third_time() -> None:
    fit = Halving()
    played = await play([Reply(error=TOO_LONG), Reply(error=TOO_LONG), "never"], messages=HISTORY, fit=fit)
    assert played.finished.error == str(TOO_LONG)
    assert fit.asked == [False, True]


async def test_nothing_shorter_is_not_sent_again() -> None:
    played = await play([Reply(error=TOO_LONG), "never"], messages=HISTORY[-1:], fit=Halving())
    assert played.finished.error_type == "ContextTooLongError"
    assert len(played.provider.requests) == 1
