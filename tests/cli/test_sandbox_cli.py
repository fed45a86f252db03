"""Commands of the assistant in the sandbox that config.json asks for."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from nanobot.security.sandbox import Landlock, fault_of
from nanobot.security.sandbox_view import View
from tests.cli.conftest import Nanobot


def configure(nanobot: Nanobot, **tools: object) -> None:
    nanobot.home.mkdir(exist_ok=True)
    (nanobot.home / "config.json").write_text(json.dumps({"tools": tools}))


def outputs(nanobot: Nanobot, *commands: str, env: dict[str, str] | None = None) -> str:
    """What the model was told of each command."""
    calls = [{"tool_calls": [{"name": "exec", "arguments": {"command": command}}]} for command in commands]
    done = nanobot.run("agent", "-m", "go", "--model", nanobot.script(*calls, {"text": "done"}), env=env)
    assert done.returncode == 0, done.stderr
    return "\n".join(
        part["content"]
        for message in nanobot.messages()
        for part in message["parts"]
        if part["type"] == "tool_result"
    )


def test_with_landlock_they_write_below_the_workspace_and_are_told_so(nanobot: Nanobot) -> None:
    if fault := asyncio.run(fault_of(Landlock(View([]), network=True))):
        pytest.skip(fault)
    configure(nanobot, exec={"sandbox": "landlock"})
    told = outputs(
        nanobot,
        "echo kept > memory/file; cat memory/file; cat $(dirname $PWD)/config.js*",
        "echo x > file",
        "echo over > $TMPDIR/there",
        "cat $TMPDIR/there; (sleep 100 &) ; echo $HOME",
    )
    assert "kept\n" in told
    assert '"landlock"' not in told
    assert "nothing new can be made at the top" in told
    assert "over\n" in told
    assert "goes on in the background" in told
    assert (nanobot.home / "workspace/memory/file").read_text() == "kept\n"


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_commands_do_their_work_and_see_no_keys(nanobot: Nanobot) -> None:
    configure(nanobot, exec={"sandbox": "bwrap"})
    told = outputs(
        nanobot,
        "echo kept > file; cat file; nanobot_home=$(dirname $PWD); ls -a $nanobot_home",
        "echo over > /tmp/there; exit 4",
        "cat /tmp/there; (sleep 100 &) ; echo $HOME",
    )
    assert "kept\n" in told
    assert "config.json" not in told
    assert "Exit code: 4" in told
    assert "over\n" in told
    assert "goes on in the background" in told
    assert (nanobot.home / "workspace/file").read_text() == "kept\n"


def test_without_bubblewrap_it_refuses_and_says_what_to_do(nanobot: Nanobot) -> None:
    configure(nanobot, exec={"sandbox": "bwrap"})
    told = outputs(nanobot, "echo ran", env={"PATH": "/nowhere"})
    assert "apt install bubblewrap" in told
    assert "ran\n" not in told


def test_without_bubblewrap_auto_confines_with_landlock(nanobot: Nanobot) -> None:
    if fault := asyncio.run(fault_of(Landlock(View([]), network=True))):
        pytest.skip(fault)
    configure(nanobot, exec={"sandbox": "auto"})
    told = outputs(nanobot, "echo ran; : > /tmp/denied", env={"PATH": "/nowhere"})
    assert "ran\n" in told
    assert "sandbox (Landlock)" in told
