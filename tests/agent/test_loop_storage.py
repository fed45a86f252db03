"""A turn whose result cannot be stored leaves what was recorded as it is: who goes on finds the open call."""

from __future__ import annotations

from nanobot.errors import StorageError
from nanobot.messages import Message
from nanobot.providers.scripted import Reply
from nanobot.store.records import Claim, StoredMessage
from nanobot.store.turns import Turns
from tests.agent.harness import Act, call, play


class _FailsOnce(Turns):
    """The first result of a tool cannot be stored; what comes later can."""

    failed = False

    async def append(self, claim: Claim, *messages: Message) -> list[StoredMessage]:
        if messages[0].tool_results and not self.failed:
            self.failed = True
            raise StorageError("The disk is full.")
        return await super().append(claim, *messages)


async def test_a_result_that_cannot_be_stored_is_not_replaced_by_another_one() -> None:
    done: list[str] = []
    act = Act("act", lambda: done.append("it"))
    played = await play([Reply(tool_calls=[call("act", "a")])], [act], turns=_FailsOnce)
    assert played.finished.error_type == "StorageError"
    assert done == ["it"]
    assert played.intended == {"a"}
    assert played.results == []
