"""Servers that are programs: what arrives, and what happens when they hang, crash, flood or lie."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.agent.tools import tool_surroundings
from nanobot.agent.tools.registry import Toolbox
from nanobot.config.mcp_servers import McpServerConfig
from nanobot.errors import ToolError
from nanobot.mcp.results import written_content
from nanobot.mcp.source import McpTools
from tests.mcp.serving import faulty, run, serving, until
from tests.talk import turn_in


def names(tools: McpTools) -> list[str]:
    return [tool.name for report in tools.servers() for tool in report.tools]


def state(tools: McpTools, name: str) -> str:
    return next(report.state for report in tools.servers() if report.name == name)


def error(tools: McpTools, name: str) -> str:
    return next(report.error for report in tools.servers() if report.name == name)


async def test_tools_appear_sorted_and_with_what_the_server_says_about_them() -> None:
    async with serving(two=faulty(), one=faulty("pages", "banner")) as tools:
        assert await tools.wait(20)
        found = await tools.tools()
        assert [tool.name for tool in found[:3]] == ["mcp_two_ask", "mcp_two_broken", "mcp_two_die"]
        assert len(found) == 26
        assert names(tools) == [tool.name for tool in found]
        hints = {tool.name: (tool.read_only, tool.repeatable) for tool in found}
        assert hints["mcp_one_look"] == (True, True)
        assert hints["mcp_one_set"] == (False, True)
        assert hints["mcp_one_echo"] == (False, False)
        assert all(a is b for a, b in zip(found, await tools.tools(), strict=True))


async def test_results_of_every_kind_arrive() -> None:
    async with serving(s=faulty()) as tools:
        await tools.wait(20)
        output = await run(tools, "mcp_s_everything")
        assert output.text.split("\n")[0] == "words"
        assert [image.media_type for image in output.images] == ["image/png", "image/png"]  # one said jpg
        assert output.images[0] == output.images[1]
        assert "image/tiff; models do not read this type" in output.text
        assert "image/png; models do not read this type" in output.text  # it was no base64
        assert "audio, 70 bytes, audio/wav" in output.text.replace("72", "70")
        assert "[link] a <file:///a.txt> (text/plain, 12 bytes): the first letter" in output.text
        assert "[resource <x://t> (text/plain)]\ninside" in output.text
        assert "[resource <x://b> (application/zip), " in output.text
        assert json.loads(output.text[output.text.index("{") :]) == {"sum": 5}
        assert (await run(tools, "mcp_s_broken")).text == "useful all the same"
        with pytest.raises(ToolError, match=r"^it went wrong$"):
            await run(tools, "mcp_s_fail")


PRECISE = '{"price": 1.10, "price": 1e2, "id": 1234567890123456789012, "of": {"a": 1, "a": 2}, "é": "\\"\\n"}'


@pytest.mark.parametrize(
    ("content", "said", "shown"),
    [
        ('{"price": 1.10}', "", '{"price": 1.10}'),
        (PRECISE, "Found it.", f"Found it.\n{PRECISE}"),
        ('{"a": "\\u00e9\\ud83d\\ude00"}', "", '{"a": "é😀"}'),
        ('{"price": 1.10}', '{"price":  1.10}', '{"price":  1.10}'),
        ('{"a": 1, "a": 2}', '{"a": 2}', '{"a": 2}\n{"a": 1, "a": 2}'),
        ('{"a": 1, "a": 2}', '{"a": 1,\n"a": 2}', '{"a": 1,\n"a": 2}'),
        ('{"result": 1.50}', "1.50", "1.50"),
    ],
)
async def test_structured_content_is_shown_as_it_was_written(content: str, said: str, shown: str) -> None:
    async with serving(s=faulty()) as tools:
        await tools.wait(20)
        await run(tools, "mcp_s_precise", said="another", content='{"price": 2.20}')
        assert (await run(tools, "mcp_s_precise", said=said, content=content)).text == shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), JSON, st.sampled_from([None, 1]))
def test_what_stands_in_a_message_is_found_whatever_is_beside_it(
    beside: dict[str, Any], content: Any, indent: int | None
) -> None:
    result = {**beside, "structuredContent": content, "x": {"structuredContent": "not this"}}
    message = json.dumps({"id": 1, "x": result, "result": result, "y": [beside]}, indent=indent)
    assert json.loads(written_content(message)) == content
    assert written_content(json.dumps({"error": {"structuredContent": 1}})) == ""


async def test_odd_tools_are_made_fit_and_called_by_their_own_names(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript"
    async with serving(s=faulty("odd", env={"TRANSCRIPT": str(transcript)})) as tools:
        await tools.wait(20)
        found = {tool.name: tool for tool in await tools.tools()}
        assert len({name for name in found if name.startswith("mcp_s_white_space_slash")}) == 2
        assert len([name for name in found if name.startswith("mcp_s_nnn")]) == 2
        assert len(found["mcp_s_wordy"].description) == 2_000
        assert "\x1b" not in found["mcp_s_wordy"].description
        report = tools.servers()[0]
        assert report.skipped == (("echo", "listed twice"),)
        registry = Toolbox(found.values())
        for name, arguments in (("pattern", {"s": "1"}), ("reference", {"r": {}}), ("nothing", {"x": 1})):
            tool = found[f"mcp_s_{name}"]
            assert registry.validate(tool, arguments) == arguments
        assert (await run(tools, "mcp_s_keyed", _key="v")).text == '{"$key": "v"}'
        await run(tools, "mcp_s_white_space_slash")
        calls = [json.loads(line) for line in transcript.read_text().splitlines()]
        assert calls[-1]["params"]["name"] == "white space.slash"


async def test_an_argument_may_have_any_name() -> None:
    async with serving(s=faulty()) as tools:
        await tools.wait(20)
        assert (await run(tools, "mcp_s_echo", self="me", text="you")).text == "you"


async def test_only_enabled_tools_are_offered(caplog: pytest.LogCaptureFixture) -> None:
    server = faulty(enabled_tools=["echo", "mcp_s_look", "missing"])
    async with serving(s=server, off=faulty(enabled=False)) as tools:
        await tools.wait(20)
        assert [tool.name for tool in await tools.tools()] == ["mcp_s_echo", "mcp_s_look"]
        [report] = tools.servers()
        assert ("missing", "in enabledTools, but unknown to the server") in report.skipped
    assert "MCP server s does not have missing, which its enabledTools names." in caplog.text


async def test_a_hanging_a_crashing_and_a_missing_server_do_not_touch_a_good_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    servers = {
        "hangs": faulty("hang"),
        "exits": faulty("exit"),
        "missing": McpServerConfig(command="/nowhere/at-all"),
        "line": McpServerConfig(command="npx -y @some/server --key secret", type="local"),
        "empty": McpServerConfig(),
        "good": faulty("flood"),
    }
    async with serving(**servers) as tools:
        tools.start()
        await until(lambda: "mcp_good_echo" in names(tools))
        assert (await run(tools, "mcp_good_echo", text="hello")).text == "hello"
        await until(lambda: error(tools, "exits"))
        assert error(tools, "exits") == (
            "the program ended with code 3. Its last words: cannot go on: no licence."
        )
        assert "cannot start at-all: No such file or directory. Install it" in error(tools, "missing")
        assert error(tools, "line") == (
            "cannot start npx: No such file or directory. "
            "Write the program alone in tools.mcpServers.line.command, and the rest in args."
        )
        assert "tools.mcpServers.empty has neither command nor url" in error(tools, "empty")
        assert state(tools, "hangs") == "starting"
        assert not await tools.wait(0.01)
    assert "MCP server exits: cannot go on: no licence" in caplog.text
    assert "writes too much to stderr" in caplog.text
    assert caplog.text.count("noise") < 100


async def test_a_hanging_tool_costs_its_timeout_and_the_server_is_told(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript"
    async with serving(s=faulty(tool_timeout=0.3, env={"TRANSCRIPT": str(transcript)})) as tools:
        await tools.wait(20)
        with pytest.raises(
            ToolError, match=r"did not answer slow within 0.3 s \(tools.mcpServers.s.toolTimeout\)"
        ):
            await run(tools, "mcp_s_slow")
        await until(lambda: "notifications/cancelled" in transcript.read_text())
        assert (await run(tools, "mcp_s_echo", text="still there")).text == "still there"


async def test_a_server_that_no_longer_reads_costs_its_timeout_and_no_more() -> None:
    async with asyncio.timeout(20), serving(s=faulty("deaf", tool_timeout=0.3)) as tools:
        await tools.wait(10)
        for _ in range(3):
            async with asyncio.timeout(3):
                with pytest.raises(ToolError, match="did not answer echo"):
                    await run(tools, "mcp_s_echo", text="x" * 1_000_000)


async def test_a_cancelled_call_reaches_the_server(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript"
    async with serving(s=faulty(env={"TRANSCRIPT": str(transcript)})) as tools:
        await tools.wait(20)
        call = asyncio.create_task(run(tools, "mcp_s_slow"))
        await until(lambda: '"slow"' in transcript.read_text())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: "notifications/cancelled" in transcript.read_text())
        sent = [json.loads(line) for line in transcript.read_text().splitlines()]
        [number] = [message["id"] for message in sent if message.get("params", {}).get("name") == "slow"]
        assert sent[-1]["params"]["requestId"] == number


async def test_a_server_that_dies_in_a_call_fails_it_at_once_and_comes_back() -> None:
    async with serving(s=faulty(tool_timeout=20)) as tools:
        await tools.wait(20)
        before = await tools.tools()
        with pytest.raises(
            ToolError, match=r"broke off during die, whose outcome is unknown: .*code 7.*a last word"
        ):
            await run(tools, "mcp_s_die")
        assert all(a is b for a, b in zip(before, await tools.tools(), strict=True))
        assert (await run(tools, "mcp_s_echo", text="again")).text == "again"


async def test_a_changed_list_is_fetched_again() -> None:
    async with serving(s=faulty()) as tools:
        await tools.wait(20)
        before = await tools.tools()
        await run(tools, "mcp_s_grow")
        await until(lambda: "mcp_s_grown" in names(tools))
        after = await tools.tools()
        assert [tool.name for tool in after if tool not in before][:1] != []
        assert (await run(tools, "mcp_s_echo", text="hello")).text == "hello"


async def test_progress_is_reported() -> None:
    said: list[str] = []
    async with serving(s=faulty()) as tools:
        await tools.wait(20)
        tool = {tool.name: tool for tool in await tools.tools()}["mcp_s_progress"]
        with tool_surroundings(turn_in("cli:test"), "call", said.append):
            await tool.execute()
    assert said == ["half (1/2)\n"]


async def test_a_question_without_defaults_is_declined(tmp_path: Path) -> None:
    transcript = tmp_path / "transcript"
    async with serving(s=faulty(env={"TRANSCRIPT": str(transcript)})) as tools:
        await tools.wait(20)
        await run(tools, "mcp_s_ask")
        await until(lambda: "decline" in transcript.read_text())


async def test_the_program_sees_harmless_variables_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("NANOBOT_TOOLS__X", "secret")
    async with serving(s=faulty(env={"OWN": "value", "LANG": "xx"})) as tools:
        await tools.wait(20)
        seen = json.loads((await run(tools, "mcp_s_environment")).text)
    assert seen["OWN"] == "value"
    assert seen["LANG"] == "xx"
    assert seen["CWD"] == os.path.realpath(Path.home())
    assert not {"OPENAI_API_KEY", "NANOBOT_TOOLS__X", "PYTEST_CURRENT_TEST"} & {*seen}


async def test_a_file_may_hold_its_environment_and_a_folder_be_named(tmp_path: Path) -> None:
    lines = (
        "# of the server\n\nexport A=one two # why\nB='quoted # text'\nOWN=from file\nC=\nno line\nD = =d \n"
    )
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode())
    server = faulty(env={"OWN": "value"}, env_file=str(tmp_path / ".env"), cwd=str(tmp_path))
    wrong = faulty(env_file=str(tmp_path / "missing")), faulty(cwd=str(tmp_path / "missing"))
    async with serving(s=server, file=wrong[0], folder=wrong[1]) as tools:
        await tools.wait(20)
        seen = json.loads((await run(tools, "mcp_s_environment")).text)
        assert "tools.mcpServers.file.envFile cannot be read" in error(tools, "file")
        assert "tools.mcpServers.folder.cwd is no folder" in error(tools, "folder")
    assert {name: seen[name] for name in "ABCD"} == {"A": "one two", "B": "quoted # text", "C": "", "D": "=d"}
    assert (seen["OWN"], seen["CWD"]) == ("value", os.path.realpath(tmp_path))


async def test_tools_may_be_left_out() -> None:
    async with serving(s=faulty(disabled_tools=["echo", "mcp_s_look"])) as tools:
        await tools.wait(20)
        assert not {"mcp_s_echo", "mcp_s_look"} & {tool.name for tool in await tools.tools()}
        [report] = tools.servers()
        assert ("echo", "in disabledTools") in report.skipped


async def test_secrets_of_the_configuration_stay_out_of_errors_and_logs(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    script = 'echo "using $TOKEN, $1 and $2" >&2; exit 1'
    server = McpServerConfig(
        command="sh",
        args=["-c", script, "sh", "--api-key", "argument-secret"],
        env_file=str(tmp_path / "env"),
    )
    (tmp_path / "env").write_text("TOKEN=env-secret")
    async with serving(s=server) as tools:
        await tools.wait(20)
        told = error(tools, "s")
    assert "using ***, --api-key and ***" in told
    assert "secret" not in told + caplog.text


@pytest.mark.parametrize(("patience", "how"), [(60.0, "by itself"), (0.0, "by SIGTERM")])
async def test_a_program_has_so_much_time_to_end_by_itself(tmp_path: Path, patience: float, how: str) -> None:
    script = """trap 'echo by SIGTERM > "$FILE"; exit' TERM; "$@"; sleep 1.2; echo by itself > "$FILE" """
    fault, file = faulty(), tmp_path / "how"
    arguments = ["-c", script, "sh", fault.command, *fault.args]
    server = McpServerConfig(command="sh", args=arguments, env={"FILE": str(file)})
    tools = McpTools({"s": server})
    tools.start(patience=patience)
    assert await tools.wait(20)
    await tools.aclose()
    assert file.read_text() == f"{how}\n"


async def test_nothing_of_a_server_is_left_behind(tmp_path: Path) -> None:
    script = 'sleep 600 & echo $! > "$FILE"; exec "$@"'
    fault = faulty("stubborn")
    server = McpServerConfig(
        command="sh",
        args=["-c", script, "sh", fault.command, *fault.args],
        env={"FILE": str(tmp_path / "pid")},
    )
    async with serving(s=server) as tools:
        await tools.wait(20)
        assert state(tools, "s") == "ready"
        child = int((tmp_path / "pid").read_text())
        os.kill(child, 0)
    await until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False
