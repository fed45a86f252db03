"""Calls of plugins that misbehave, and what reaches the model of calls that do not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.bus.events import ToolFinished, ToolOutputDelta, ToolStarted
from nanobot.messages import ToolCall
from nanobot.plugins.files import _as_output
from nanobot.providers.scripted import Reply
from tests.agent.harness import open_turn, play
from tests.tools.plugin_folder import PluginFolder, plain


async def ends(name: str) -> None:
    """Return when no thread of the plugin file runs any more."""
    async with asyncio.timeout(20):
        while any(thread.name == f"plugin {name}" for thread in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
async def stuck(plugins: PluginFolder) -> AsyncIterator[PluginFolder]:
    """Plugins that never end, until the test does."""
    flag = plugins.workspace / "over"
    plugins.write(
        "stuck.py",
        f"""
import pathlib, time
from nanobot.agent.tools import Tool

OVER, BEGUN = pathlib.Path({str(flag)!r}), pathlib.Path({str(plugins.workspace / "begun")!r})

class Blocked(Tool):
    name = "blocked"
    description = ""
    parameters = {{"type": "object"}}
    time_limit = 0.2
    def execute(self, **kwargs):
        BEGUN.touch()
        while not OVER.exists():
            try:
                time.sleep(0.01)
            except BaseException:
                pass

class Patient(Blocked):
    name = "patient"
    time_limit = 3600

class Busy(Blocked):
    name = "busy"
    async def execute(self, **kwargs):
        while True:
            pass
""",
    )
    yield plugins
    flag.touch()
    await plugins.source.aclose()
    await ends("stuck.py")


async def test_a_call_that_blocks_is_given_up(stuck: PluginFolder) -> None:
    played = await stuck.turn("blocked")
    (result,) = played.results
    assert result.outcome == "error"
    assert "blocked did not end within 0.2 seconds" in result.content
    assert "time_limit" in result.content
    assert played.finished.text == "done"


async def test_a_busy_loop_is_interrupted(stuck: PluginFolder) -> None:
    assert "did not end within" in await stuck.result("busy")
    await ends("stuck.py")


async def test_a_plugin_that_blocks_again_and_again_gets_no_more_threads(stuck: PluginFolder) -> None:
    for _ in range(4):
        assert "did not end" in await stuck.result("blocked")
    assert "stuck.py is blocked" in await stuck.result("blocked")
    (stuck.workspace / "over").touch()
    await ends("stuck.py")
    assert await stuck.result("blocked") == "(no output)"


async def test_stopping_a_turn_does_not_wait_for_the_plugin(stuck: PluginFolder) -> None:
    replies = [Reply(tool_calls=[ToolCall("c1", "patient", {})])]
    async with open_turn(replies, list(await stuck.source.tools())) as opened:
        task = asyncio.create_task(opened.run())
        while not (stuck.workspace / "begun").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait_for(task, 5)
        played = await opened.played()
    assert played.finished.stop_reason == "cancelled"
    (result,) = played.results
    assert result.outcome == "cancelled"


async def test_other_calls_go_on_beside_one_that_blocks(stuck: PluginFolder) -> None:
    stuck.write("fine.py", plain("fine"))
    waiting = asyncio.create_task(stuck.turn("patient"))
    while not (stuck.workspace / "begun").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await stuck.result("fine", value="fine") == "fine"
    assert "did not end" in await stuck.result("blocked")
    (stuck.workspace / "over").touch()
    assert (await waiting).finished.text == "done"


async def test_a_call_of_a_file_that_was_changed_meanwhile_ends_well(stuck: PluginFolder) -> None:
    waiting = asyncio.create_task(stuck.turn("patient"))
    while not (stuck.workspace / "begun").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    (stuck.folder / "stuck.py").unlink()
    assert await stuck.tools() == {}
    (stuck.workspace / "over").touch()
    assert (await waiting).results[0].outcome == "ok"
    await ends("stuck.py")


async def test_a_cancelled_call_can_clean_up(plugins: PluginFolder) -> None:
    done = plugins.workspace / "cleaned"
    body = f"""time_limit = 0.1
async def execute(self, **kwargs):
    import asyncio, pathlib
    try:
        await asyncio.sleep(3600)
    finally:
        pathlib.Path({str(done)!r}).touch()"""
    plugins.write("a.py", plain("a", body))
    assert "did not end within 0.1 seconds" in await plugins.result("a")
    await ends("a.py")
    assert done.exists()


async def test_a_file_that_hangs_while_it_is_loaded(plugins: PluginFolder) -> None:
    flag = plugins.workspace / "over"
    plugins.write(
        "a.py", f"import pathlib, time\nwhile not pathlib.Path({str(flag)!r}).exists(): time.sleep(0.01)"
    )
    plugins.write("b.py", plain("b"))
    first, second = await asyncio.gather(plugins.tools(), plugins.tools())
    assert [*first] == [*second] == ["b"]
    told = "It was not loaded after 5 seconds. Import slow libraries in `execute`."
    assert await plugins.faults() == {"plugin a.py": told}
    flag.touch()
    await ends("a.py")


async def test_a_turn_that_begins_while_plugins_are_loaded_sees_what_was_changed_before_it(
    plugins: PluginFolder,
) -> None:
    begun, over = plugins.workspace / "begun", plugins.workspace / "over"
    plugins.write(
        "a.py",
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(over)!r}).exists(): time.sleep(0.01)\n{plain('a')}",
    )
    first = asyncio.create_task(plugins.tools())
    async with asyncio.timeout(20):
        while not begun.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    plugins.write("b.py", plain("b"))
    later = [asyncio.create_task(plugins.tools()) for _ in range(3)]
    await asyncio.sleep(0)
    over.touch()
    assert [*await first] == ["a"]
    assert [[*await turn] for turn in later] == [["a", "b"]] * 3


RAISING = {
    "raise ValueError('bad value')": "ValueError: bad value (bad.py, line 10)",
    "import sys; sys.exit(1)": "SystemExit: 1 (bad.py, line 10)",
    "raise KeyboardInterrupt": "KeyboardInterrupt (bad.py, line 10)",
    "raise StopIteration": "StopIteration",
    "raise BaseExceptionGroup('all', [SystemExit()])": "BaseExceptionGroup: all (1 sub-exception)",
    "import asyncio; raise asyncio.CancelledError": "CancelledError",
    "raise TimeoutError('slow')": "TimeoutError: slow",
    "from nanobot.errors import ToolError; raise ToolError('Say please.')": "Error: Say please.",
    "return self.execute(**kwargs)": "RecursionError",
    "import threading; threading.local().x": "AttributeError",
}


@pytest.mark.parametrize("kind", ["async def", "def"])
@pytest.mark.parametrize(("code", "told"), RAISING.items())
async def test_whatever_is_raised_is_told(plugins: PluginFolder, code: str, told: str, kind: str) -> None:
    if code.startswith("return"):
        code = code.replace("self", "await self" if kind == "async def" else "self")
    if kind == "async def" and "StopIteration" in code:
        told = "RuntimeError: coroutine raised StopIteration"
    plugins.write("bad.py", plain("bad", f"{kind} execute(self, **kwargs):\n    {code}"))
    plugins.write("fine.py", plain("fine"))
    (result,) = (await plugins.turn("bad")).results
    assert result.outcome == "error"
    assert told in result.content
    assert await plugins.result("fine", value="fine") == "fine"


async def test_an_exit_in_a_task_of_the_plugin(plugins: PluginFolder) -> None:
    body = """async def execute(self, value, **kwargs):
    import asyncio, sys
    async def leave():
        if value == "leave": sys.exit(1)
    await asyncio.create_task(leave())
    return "stayed" """
    plugins.write("bad.py", plain("bad", body))
    assert "SystemExit" in await plugins.result("bad", value="leave")
    assert await plugins.result("bad", value="stay") == "stayed"


RESULTS = {
    "'text'": "text",
    "''": "",
    "None": "(no output)",
    "5": "5",
    "True": "true",
    "{'a': [1, None, 'ä']}": '{"a": [1, null, "ä"]}',
    "('a', 'b')": '["a", "b"]',
    "{1, 1}": "{1}",
    "b'caf\\xc3\\xa9 \\xff'": "café \ufffd",
    "'\\ud800'": "?",
    "'\\x1b[31m10%\\r100%\\x1b[0m done'": "100% done",
    "{'a': '\\ud800'}": '{"a": "?"}',
    "(lambda x: x.append(x) or x)([])": "[[...]]",
    "ToolOutput('shown', ('no image',))": "shown",
    "ToolOutput(5)": "5",
    "type('Odd', (), {'__str__': lambda self: 1 / 0})()": "Error: ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize(("value", "shown"), RESULTS.items())
async def test_results_become_text(plugins: PluginFolder, value: str, shown: str) -> None:
    source = plain("a", f"async def execute(self, **kwargs):\n    return {value}")
    plugins.write("a.py", f"from nanobot.agent.tools import ToolOutput\n{source}")
    assert (await plugins.result("a")).startswith(shown)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner)))
def test_any_data_becomes_text(value: Any) -> None:
    output = _as_output(value)
    output.text.encode()
    if isinstance(value, list):
        with contextlib.suppress(ValueError):
            assert len(json.loads(output.text)) == len(value)


async def test_text_that_begins_with_error_is_a_failure(plugins: PluginFolder) -> None:
    plugins.write("a.py", plain("a"))
    (result,) = (await plugins.turn("a", value="Error: no luck")).results
    assert (result.outcome, result.content) == ("error", "Error: no luck")


async def test_arguments_are_checked_and_fitted(plugins: PluginFolder) -> None:
    body = """parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
def execute(self, n):
    return n + 1"""
    plugins.write("a.py", plain("a", body))
    assert await plugins.result("a", n="4", unknown=1) == "5"
    assert "Argument 'n': 'x' is not of type 'integer'" in await plugins.result("a", n="x")


async def test_the_turn_is_known_and_output_is_shown_live(plugins: PluginFolder) -> None:
    body = """def execute(self, **kwargs):
    import threading
    from nanobot.agent.tools import current_turn
    from nanobot.agent.tools import current_call_id, report_output
    report_output("working")
    main = threading.current_thread() is threading.main_thread()
    return f"{current_turn().session_key} {current_call_id()} {main}" """
    plugins.write("a.py", plain("a", body))
    played = await plugins.turn("a")
    assert played.results[0].content == "cli:direct c1 False"
    kinds = [
        type(event)
        for event in played.events
        if isinstance(event, ToolStarted | ToolOutputDelta | ToolFinished)
    ]
    assert kinds == [ToolStarted, ToolOutputDelta, ToolFinished]


async def test_what_a_plugin_keeps_stays_usable(plugins: PluginFolder) -> None:
    """An asynchronous client belongs to one event loop: calls after each other share it."""
    body = """async def execute(self, **kwargs):
    import asyncio
    self.loops = getattr(self, "loops", set()) | {asyncio.get_running_loop()}
    return len(self.loops)"""
    plugins.write("a.py", plain("a", body))
    assert [await plugins.result("a") for _ in range(3)] == ["1", "1", "1"]


async def test_ordinary_functions_may_start_a_loop_of_their_own(plugins: PluginFolder) -> None:
    body = """def __init__(self):
    import asyncio
    self.word = asyncio.run(asyncio.sleep(0, "hello"))

def execute(self, **kwargs):
    import asyncio
    return asyncio.run(asyncio.sleep(0, self.word))"""
    plugins.write("a.py", plain("a", body))
    plugins.write("b.py", f"import asyncio\nasyncio.run(asyncio.sleep(0))\n{plain('b')}")
    assert [await plugins.result("a") for _ in range(2)] == ["hello", "hello"]
    assert await plugins.result("b", value="x") == "x"


async def test_reading_tools_run_side_by_side(plugins: PluginFolder, tmp_path: Path) -> None:
    body = f"""read_only = True
def execute(self, value, **kwargs):
    import pathlib, time
    (pathlib.Path({str(tmp_path)!r}) / value).touch()
    while not all((pathlib.Path({str(tmp_path)!r}) / name).exists() for name in ("x", "y")):
        time.sleep(0.01)
    return value"""
    plugins.write("a.py", plain("a", body))
    calls = [ToolCall("1", "a", {"value": "x"}), ToolCall("2", "a", {"value": "y"})]
    played = await play([Reply(tool_calls=calls), "done"], list(await plugins.source.tools()))
    assert [result.content for result in played.results] == ["x", "y"]
