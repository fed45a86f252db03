"""The gateway end to end: accepted messages are answered in order, once, by the chat they came from."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from nanobot import paths
from nanobot.app import open_app
from nanobot.errors import StorageError
from nanobot.gateway import Gateway
from nanobot.messages import ToolCall, unanswered_calls
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply, ScriptedProvider
from nanobot.store.workers import Workers
from tests.gateway.conftest import config_for, running_gateway
from tests.peers.loopback_platform import Platform


def echo(request: ModelRequest) -> str:
    return f"you said: {request.messages[-1].text}"


async def test_messages_are_answered_in_order(platform: Platform) -> None:
    async with running_gateway(config_for(platform), ScriptedProvider(echo)):
        for number in range(5):
            platform.user_sends("anna", f"m{number}")
        platform.user_sends("ben", "hello")
        assert await platform.wait_for("anna", 5) == [f"you said: m{number}" for number in range(5)]
        assert await platform.wait_for("ben", 1) == ["you said: hello"]
        assert platform.unacknowledged == {}


async def test_what_was_sent_while_the_gateway_was_down_is_answered(platform: Platform) -> None:
    platform.user_sends("anna", "anybody there?")
    async with running_gateway(config_for(platform), ScriptedProvider(echo)):
        assert await platform.wait_for("anna", 1) == ["you said: anybody there?"]


async def test_a_stranger_is_refused_before_anything_else(platform: Platform) -> None:
    config = config_for(platform, allow=["anna"])
    provider = ScriptedProvider(echo)
    async with running_gateway(config, provider) as (app, gateway):
        platform.user_sends("eve", "/help")
        platform.user_sends("anna", "hi")
        await platform.wait_for("anna", 1)
        assert platform.texts("eve") == []
        assert await app.store.sessions.get("loopback:eve") is None
        assert gateway.channels.status["loopback"].refused == 1


async def test_slash_commands_answer_in_the_chat(platform: Platform) -> None:
    async with running_gateway(config_for(platform), ScriptedProvider(echo)):
        platform.user_sends("anna", "/help")
        platform.user_sends("anna", "/nonsense")
        shown = await platform.wait_for("anna", 2)
        assert "/new" in shown[0]
        assert "no command /nonsense" in shown[1]


@pytest.mark.parametrize("command", ["/sessions", "/status", "/context", "/rewind", "/resume"])
async def test_what_stands_in_columns_is_a_code_block_in_a_chat(platform: Platform, command: str) -> None:
    async with running_gateway(config_for(platform), ScriptedProvider(echo)):
        platform.user_sends("anna", "a title with ``` in it")
        platform.user_sends("anna", command)
        _, shown = await platform.wait_for("anna", 2)
        begin, block, end = shown.split("```")
        assert (begin, block[0], block[-1]) == ("", "\n", "\n")
        assert "a title with" in block or command == "/context"
        assert end.count("\n") <= 1


async def test_a_chat_sees_no_sessions_of_others(platform: Platform) -> None:
    async with running_gateway(config_for(platform), ScriptedProvider(echo)):
        platform.user_sends("anna", "my secret plan")
        await platform.wait_for("anna", 1)
        platform.user_sends("eve", "/sessions")
        (listing,) = await platform.wait_for("eve", 1)
        assert "secret" not in listing
        assert "anna" not in listing


async def test_a_chat_looks_into_its_own_conversation_and_no_other(platform: Platform) -> None:
    async with running_gateway(config_for(platform), ScriptedProvider(echo)):
        platform.user_sends("anna", "my secret plan")
        await platform.wait_for("anna", 1)
        for text in ("hello", "hello again", "/rename Eve's", "/sessions", "/context", "/compact", "/new"):
            platform.user_sends("eve", text)
        for text in ("/resume loopback:anna", "/resume my secret", "/resume @1", "/resume 2"):
            platform.user_sends("eve", text)
        shown = await platform.wait_for("eve", 11)
        assert "Eve's" in shown[3]
        assert "4 messages are shown" in shown[4]
        assert shown[5].startswith("Compacted: about")
        assert "no conversation 'loopback:anna'" in shown[7]
        assert "no conversation 'my secret'" in shown[8]
        assert "no conversation '@1'" in shown[9]
        assert "Going on with @2 (Eve's), 4 messages." in shown[10]
        assert "secret plan" not in "".join(shown)


async def test_stop_ends_the_running_turn(platform: Platform) -> None:
    asked = asyncio.Event()

    def model(request: ModelRequest) -> Reply:
        asked.set()
        return Reply("I will never", wait=asyncio.Event()) if len(request.messages) == 1 else Reply("fresh")

    provider = ScriptedProvider(model)
    async with running_gateway(config_for(platform), provider):
        platform.user_sends("anna", "go")
        await asyncio.wait_for(asked.wait(), 10)
        platform.user_sends("anna", "/stop")
        platform.user_sends("anna", "next")
        assert await platform.wait_for("anna", 2) == ["Stopped.", "fresh"]


async def test_a_turn_that_is_stopped_again_while_it_cleans_up_is_closed(
    platform: Platform, tmp_path: Path
) -> None:
    """It stayed `running` under a worker that lived on, and the chat was never answered again."""
    folder = paths.home() / "workspace" / "memory"
    begun = folder / "begun"
    stubborn = f"trap 'touch {folder}/asked' TERM; touch {begun}; while true; do sleep 0.1; done"

    def model(request: ModelRequest) -> Reply | str:
        if request.messages[-1].text == "work":
            return Reply(tool_calls=(ToolCall("c1", "exec", {"command": stubborn}),))
        return echo(request)

    async with running_gateway(config_for(platform), ScriptedProvider(model)) as (app, gateway):
        platform.user_sends("anna", "work")
        await until_exists(begun)
        platform.user_sends("anna", "/stop")
        await until_exists(folder / "asked")  # the command is being ended, which takes a while
        for text in ("/stop", "hello"):
            platform.user_sends("anna", text)
        shown = await platform.wait_for("anna", 3)
        assert (shown[0], shown[-1]) == ("Stopped.", "you said: hello")
        history = [entry.message for entry in await app.store.sessions.history("loopback:anna")]
        assert unanswered_calls(history) == []
        assert gateway.dispatcher.running == 0


async def test_a_sign_of_life_that_cannot_be_stored_costs_no_turn(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanobot.agent.dispatch.RENEW", 0.01)
    renewed = asyncio.Event()

    class Failing(Workers):
        failures = 0

        def enlist(self) -> int:
            Failing.failures += 1
            if Failing.failures == 1:
                raise StorageError("The disk is full.")
            renewed.set()
            return super().enlist()

    answer = asyncio.Event()
    async with running_gateway(
        config_for(platform), ScriptedProvider(lambda request: Reply("done", wait=answer))
    ) as (app, _):
        app.store.workers.__class__ = Failing
        platform.user_sends("anna", "work")
        await asyncio.wait_for(renewed.wait(), 10)
        answer.set()
        assert await platform.wait_for("anna", 1) == ["done"]


async def until_exists(path: Path) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110  another process makes it
            await asyncio.sleep(0.02)


async def test_steering_joins_the_running_turn(platform: Platform) -> None:
    asked, release = asyncio.Event(), asyncio.Event()
    call = ToolCall("c1", "list_dir", {"path": "."})

    def model(request: ModelRequest) -> Reply:
        asked.set()
        if len(request.messages) == 1:
            return Reply(tool_calls=[call], wait=release)
        return Reply(text=" + ".join(m.text for m in request.messages if m.role == "user"))

    provider = ScriptedProvider(model)
    config = config_for(platform, agents={"defaults": {"queueMode": "steer"}})
    async with running_gateway(config, provider):
        platform.user_sends("anna", "one")
        await asyncio.wait_for(asked.wait(), 10)
        platform.user_sends("anna", "two")
        await platform.wait_until(lambda: not platform.unacknowledged)
        release.set()
        assert await platform.wait_for("anna", 1) == ["one + two"]


async def test_queue_shows_and_chooses_what_new_messages_do(platform: Platform) -> None:
    release, asked = asyncio.Event(), asyncio.Event()
    call = ToolCall("c1", "list_dir", {"path": "."})

    def model(request: ModelRequest) -> Reply:
        if any(m.text == "one" for m in request.messages) and request.messages[-1].text == "one":
            asked.set()
            return Reply(tool_calls=[call], wait=release)
        return Reply(text=" + ".join(m.text for m in request.messages if m.role == "user"))

    async with running_gateway(config_for(platform), ScriptedProvider(model)) as (app, _):
        for text in ("/queue", "/queue sideways", "/queue Steer", "/queue"):
            platform.user_sends("anna", text)
        shown, wrong, chosen, again = await platform.wait_for("anna", 4)
        assert shown.startswith("Mode queue: ")
        assert "no 'sideways'" in wrong
        assert chosen == again
        assert chosen.startswith("Mode steer: ")
        platform.user_sends("anna", "one")
        await asyncio.wait_for(asked.wait(), 10)
        platform.user_sends("anna", "two")
        await platform.wait_until(lambda: not platform.unacknowledged)
        release.set()
        assert (await platform.wait_for("anna", 5))[-1] == "one + two"
        platform.user_sends("ben", "/queue")
        assert (await platform.wait_for("ben", 1))[0].startswith("Mode queue: ")
        platform.user_sends("anna", "/queue queue")
        assert (await platform.wait_for("anna", 6))[-1].startswith("Mode queue: ")
        assert (await app.store.sessions.open("loopback:anna")).settings["queue"] == "queue"


async def test_an_error_is_reported_as_one(platform: Platform) -> None:
    provider = ScriptedProvider([])
    async with running_gateway(config_for(platform), provider):
        platform.user_sends("anna", "hi")
        (shown,) = await platform.wait_for("anna", 1)
        assert shown.startswith("⚠️")


async def test_a_failing_delivery_is_tried_again_and_others_are_not_held_up(platform: Platform) -> None:
    failures = itertools.count()
    platform.fail = lambda shown: "busy" if shown.chat == "anna" and next(failures) < 2 else None
    async with running_gateway(config_for(platform), ScriptedProvider(echo)) as (_, gateway):
        platform.user_sends("anna", "a")
        platform.user_sends("ben", "b")
        assert await platform.wait_for("ben", 1) == ["you said: b"]
        assert await platform.wait_for("anna", 1) == ["you said: a"]
        assert gateway.channels.status["loopback"].last_error == "busy"


async def test_a_hopeless_delivery_is_parked_at_once(platform: Platform) -> None:
    platform.fail = lambda shown: "permanent: chat is gone" if shown.text.endswith("first") else None
    async with running_gateway(config_for(platform), ScriptedProvider(echo)) as (app, _):
        platform.user_sends("anna", "first")
        platform.user_sends("anna", "second")
        assert await platform.wait_for("anna", 1) == ["you said: second"]
        parked = [entry for entry in await app.store.outbox.entries() if entry.state == "parked"]
        assert [entry.error for entry in parked] == ["permanent: chat is gone"]


async def test_a_channel_that_breaks_while_sending_is_tried_again_after_a_pause(platform: Platform) -> None:
    tries = itertools.count()
    platform.fail = lambda shown: "bug" if next(tries) < 1 else None
    async with running_gateway(config_for(platform), ScriptedProvider(echo)):
        platform.user_sends("anna", "a")
        assert await platform.wait_for("anna", 1) == ["you said: a"]
        assert next(tries) == 2


async def test_attachments_are_fetched_after_acceptance_and_named(platform: Platform) -> None:
    provider = ScriptedProvider(["seen"])
    async with running_gateway(config_for(platform), provider):
        platform.user_sends("anna", "look", files=["../../evil.txt"])
        await platform.wait_for("anna", 1)
    note = str(provider.requests[0].messages[-1].parts)
    assert "text/plain: " in note
    assert "/media/loopback/" in note
    assert "/" not in note.split("/media/loopback/")[1].split("]")[0]


async def test_ids_that_are_no_unicode_hold_up_nobody(platform: Platform) -> None:
    async with running_gateway(config_for(platform), ScriptedProvider(echo)) as (_, gateway):
        platform.user_sends("anna\ud800", "dropped")
        platform.user_sends("anna", "hello \ud800")
        assert await platform.wait_for("anna", 1) == ["you said: hello ?"]
        assert gateway.channels.status["loopback"].refused == 1
    assert platform.unacknowledged == {}


@pytest.mark.parametrize(("one", "other"), [("m/1", "m_1"), ("i" * 200 + "1", "i" * 200 + "2")])
async def test_a_chat_never_sees_the_file_of_another(platform: Platform, one: str, other: str) -> None:
    """The platform's ids look alike as file names."""
    async with running_gateway(config_for(platform), ScriptedProvider(echo)) as (app, _):
        platform.user_sends("anna", "look", files=["a.txt"], id=one)
        platform.user_sends("ben", "look", files=["a.txt"], id=other)
        await platform.wait_for("anna", 1)
        await platform.wait_for("ben", 1)
        notes = [
            str((await app.store.sessions.history(f"loopback:{chat}"))[0].message.parts)
            for chat in ("anna", "ben")
        ]
    paths = {note.split("text/plain: ")[1].split("]")[0] for note in notes}
    assert len(paths) == 2


async def test_the_message_tool_speaks_once_and_the_answer_is_not_repeated(
    platform: Platform, tmp_path: Any
) -> None:
    call = ToolCall("c1", "message", {"content": "Here it is."})
    provider = ScriptedProvider([Reply(tool_calls=[call]), "I sent it.", "plain"])
    async with running_gateway(config_for(platform), provider):
        platform.user_sends("anna", "send it")
        assert await platform.wait_for("anna", 1) == ["Here it is."]
        platform.user_sends("anna", "and now?")
        assert await platform.wait_for("anna", 2) == ["Here it is.", "plain"]


async def test_the_message_tool_only_writes_to_chats_that_wrote_before(platform: Platform) -> None:
    to_eve = ToolCall("c1", "message", {"content": "psst", "chat_id": "eve"})
    to_ben = ToolCall("c2", "message", {"content": "hi ben", "chat_id": "ben"})
    provider = ScriptedProvider(["hello ben", Reply(tool_calls=[to_eve, to_ben]), "done"])
    async with running_gateway(config_for(platform), provider):
        platform.user_sends("ben", "hi")
        await platform.wait_for("ben", 1)
        platform.user_sends("anna", "tell them")
        assert await platform.wait_for("anna", 1) == ["done"]
        assert await platform.wait_for("ben", 2) == ["hello ben", "hi ben"]
        assert platform.texts("eve") == []


async def test_interim_words_are_progress_and_hints_are_optional(platform: Platform) -> None:
    call = ToolCall("c1", "list_dir", {"path": "."})
    steps = [Reply(text="Let me look.", tool_calls=[call]), "found"]
    channels = {"showToolProgress": True}
    async with running_gateway(config_for(platform, channels=channels), ScriptedProvider(steps)):
        platform.user_sends("anna", "look")
        assert await platform.wait_for("anna", 3) == ["Let me look.", 'list_dir(".")', "found"]


async def test_a_second_gateway_stands_by_and_takes_over(platform: Platform) -> None:
    config = config_for(platform)
    async with open_app(config) as other:
        other.models.use(other.assistant.default_model, ScriptedProvider(echo))
        second, stop, leading = Gateway(other), asyncio.Event(), asyncio.Event()
        async with running_gateway(config, ScriptedProvider(echo)):
            task = asyncio.create_task(second.run(stop, leading.set))
            platform.user_sends("anna", "one")
            await platform.wait_for("anna", 1)
            assert not second.leading
        await asyncio.wait_for(leading.wait(), 10)
        platform.user_sends("anna", "two")
        assert await platform.wait_for("anna", 2) == ["you said: one", "you said: two"]
        stop.set()
        await asyncio.wait_for(task, 15)


async def test_a_bug_in_a_turn_is_reported_and_frees_the_lane(platform: Platform) -> None:
    answers = iter([RuntimeError("bug"), None])

    def model(request: ModelRequest) -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "fine again"

    async with running_gateway(config_for(platform), ScriptedProvider(model)):
        platform.user_sends("anna", "one")
        platform.user_sends("anna", "two")
        shown = await platform.wait_for("anna", 2)
        assert "went wrong" in shown[0]
        assert shown[1] == "fine again"


async def test_a_limit_is_told_also_after_the_message_tool_spoke(platform: Platform) -> None:
    def model(request: ModelRequest) -> Reply:
        return Reply(tool_calls=[ToolCall("", "message", {"content": f"news {len(request.messages)}"})])

    config = config_for(platform, agents={"defaults": {"maxToolIterations": 2}})
    async with running_gateway(config, ScriptedProvider(model)):
        platform.user_sends("anna", "go")
        *news, last = await platform.wait_for("anna", 3)
        assert news == ["news 1", "news 3"]
        assert "maxToolIterations" in last
