"""`tools.policy` in chats: the owner is asked before a call runs, and nobody else can answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nanobot import paths
from nanobot.messages import ToolCall
from nanobot.providers.base import ModelRequest
from nanobot.providers.scripted import Reply, ScriptedProvider
from tests.gateway.conftest import config_for, running_gateway
from tests.peers.loopback_platform import Platform

QUESTION = re.compile(r"May I run `exec`\?.*\n/approve (\w{6}) or /deny \1", re.DOTALL)


def mine() -> Path:
    """A file that a command may make, in a sandbox too."""
    return paths.home() / "workspace" / "memory" / "file"


def touching(file: Path) -> ScriptedProvider:
    """Makes one call of exec for a message, then says what came of it."""

    def model(request: ModelRequest) -> Reply | str:
        results = request.messages[-1].tool_results
        if results:
            return results[0].content
        return Reply(tool_calls=(ToolCall("c1", "exec", {"command": f"touch {file}"}),))

    return ScriptedProvider(model)


def config(platform: Platform, **sections: Any) -> Any:
    return config_for(platform, allow=["anna", "ben"], tools={"policy": {"exec": "ask"}}, **sections)


async def code_of_question(platform: Platform, user: str, count: int = 1) -> str:
    (*_, shown) = await platform.wait_for(user, count)
    found = QUESTION.search(shown)
    assert found, shown
    return found[1]


async def test_a_call_runs_when_the_owner_says_so(platform: Platform) -> None:
    async with running_gateway(config(platform), touching(mine())):
        platform.user_sends("anna", "go")
        code = await code_of_question(platform, "anna")
        assert f"command: touch {mine()}" in platform.texts("anna")[0]
        assert not mine().exists()
        platform.user_sends("anna", f"/approve {code.lower()}")
        assert "Exit code: 0" in (await platform.wait_for("anna", 2))[1]
        assert (await platform.wait_for("anna", 3))[2] == "It was allowed."
        assert mine().exists()


async def test_a_call_does_not_run_when_the_owner_says_no(platform: Platform) -> None:
    async with running_gateway(config(platform), touching(mine())):
        platform.user_sends("anna", "go")
        platform.user_sends("anna", f"/deny {await code_of_question(platform, 'anna')}")
        _, told, answer = await platform.wait_for("anna", 3)
        assert told.startswith("Error: The owner said no to this call of exec.")
        assert answer == "It was not allowed."
        assert not mine().exists()


async def test_nobody_answers_for_another_chat(platform: Platform) -> None:
    async with running_gateway(config(platform), touching(mine())):
        platform.user_sends("anna", "go")
        code = await code_of_question(platform, "anna")
        platform.user_sends("ben", f"/approve {code}")
        assert await platform.wait_for("ben", 1) == ["No question of that code waits here for your answer."]
        assert not mine().exists()
        platform.user_sends("anna", "/stop")
        assert (await platform.wait_for("anna", 2))[1] == "Stopped."
        platform.user_sends("anna", f"/approve {code}")  # too late
        await platform.wait_for("anna", 3)
        assert not mine().exists()


async def test_who_is_admitted_because_everybody_is_cannot_be_asked(
    platform: Platform,
) -> None:
    open_to_all = config_for(platform, tools={"policy": {"exec": "ask"}})
    async with running_gateway(open_to_all, touching(mine())):
        platform.user_sends("eve", "go")
        (told,) = await platform.wait_for("eve", 1)
        assert "nobody can give it here" in told
        assert not mine().exists()


async def test_a_question_is_asked_again_after_a_restart(platform: Platform) -> None:
    provider = touching(mine())
    async with running_gateway(config(platform), provider):
        platform.user_sends("anna", "go")
        first = await code_of_question(platform, "anna")
    async with running_gateway(config(platform), provider):
        second = await code_of_question(platform, "anna", 2)
        platform.user_sends("anna", f"/approve {first}")
        assert second != first
        assert not mine().exists()
        platform.user_sends("anna", f"/approve {second}")
        assert "Exit code: 0" in (await platform.wait_for("anna", 3))[2]


async def test_what_is_denied_asks_nobody(platform: Platform) -> None:
    denied = config_for(platform, allow=["anna"], tools={"policy": {"*": "deny"}})
    async with running_gateway(denied, touching(mine())):
        platform.user_sends("anna", "go")
        (told,) = await platform.wait_for("anna", 1)
        assert told.startswith("Error: The owner does not allow exec (tools.policy).")
