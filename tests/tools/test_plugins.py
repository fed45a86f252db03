"""Plugins: which are found, what is said about the others, and how changes are noticed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.agent.tools import Tool
from nanobot.agent.tools.registry import Toolbox
from nanobot.app import open_app
from nanobot.config.schema import Config
from nanobot.errors import ToolError
from nanobot.messages import ToolCall
from nanobot.plugins.files import _checked_schema
from nanobot.providers.schemas import plain_schema
from tests.tools.plugin_folder import PluginFolder, plain

CONSTRUCTORS = """
from nanobot.agent.tools import Tool, ToolContext

class Base(Tool):
    description = "Tells about its constructor."
    parameters = {"type": "object", "properties": {}}

    async def execute(self, **kwargs) -> str:
        return str(getattr(self, "given", "nothing"))

class WithContext(Base):
    name = "with_context"
    def __init__(self, context: ToolContext):
        self.given = (context.workspace, context.working_dir, context.allowed_dir,
                      context.exec_timeout, context.restrict_to_workspace, context.brave_api_key)

class KeywordOnly(Base):
    name = "keyword_only"
    def __init__(self, *, greeting="hello", context):
        self.given = context.exec_timeout

class Anything(Base):
    name = "anything"
    def __init__(self, **kwargs):
        self.given = sorted(kwargs)

class NoArguments(Base):
    name = "no_arguments"
    def __init__(self):
        self.given = "set"

class NoConstructor(Base):
    name = "no_constructor"
"""


async def test_the_styles_of_constructors(plugins: PluginFolder) -> None:
    plugins.write("all.py", CONSTRUCTORS.replace("class Base(Tool):", "class Base(Tool):\n    name = 'base'"))
    workspace = plugins.workspace
    assert await plugins.result("with_context") == str(
        (workspace, str(workspace), None, 30, False, "brave key")
    )
    assert await plugins.result("keyword_only") == "30"
    assert await plugins.result("anything") == "['context']"
    assert await plugins.result("no_arguments") == "set"
    assert await plugins.result("no_constructor") == "nothing"
    names = ["base", "with_context", "keyword_only", "anything", "no_arguments", "no_constructor"]
    assert [*await plugins.tools()] == names


async def test_a_base_class_is_no_tool(plugins: PluginFolder) -> None:
    plugins.write("all.py", CONSTRUCTORS)
    assert "base" not in await plugins.tools()
    assert await plugins.faults() == {}


async def test_other_names_in_the_file_do_no_harm(plugins: PluginFolder) -> None:
    imports = "from abc import ABCMeta\nfrom enum import Enum\nfrom typing import *\nTexts = list[str]\n"
    plugins.write("a.py", f"{imports}{plain('a')}Again = A\nfrom nanobot.tools.web import WebFetchTool\n")
    assert [*await plugins.tools()] == ["a"]
    assert await plugins.faults() == {}


async def test_the_restricted_context(tmp_path: Path) -> None:
    folder = PluginFolder(tmp_path / "restricted", restricted=True)
    folder.write("all.py", CONSTRUCTORS)
    assert str(folder.workspace) in await folder.result("with_context")
    assert ", True, 'brave key'" in await folder.result("with_context")
    await folder.source.aclose()


async def test_which_files_count(plugins: PluginFolder) -> None:
    plugins.write("b.py", plain("b1") + plain("b2"))
    plugins.write("a.py", plain("a1"))
    plugins.write("_helper.py", plain("helper"))
    plugins.write(".hidden.py", plain("hidden"))
    plugins.write("c.txt", plain("text"))
    (plugins.folder / "sub").mkdir()
    (plugins.folder / "sub" / "d.py").write_text(plain("sub"))
    (plugins.folder / "with-dash.py").write_text(plain("dash"))
    assert [*await plugins.tools()] == ["a1", "b1", "b2", "dash"]
    assert await plugins.faults() == {}


async def test_a_link_is_not_run(plugins: PluginFolder, caplog: pytest.LogCaptureFixture) -> None:
    """A tool may write what it leads to: only what lies in the folder itself is the owner's word."""
    draft = plugins.workspace / "draft.py"
    draft.write_text(f"print('it runs')\nWORD = 1\n{plain('linked')}")
    for name in ("z.py", "_words.py"):
        (plugins.folder / name).symlink_to(draft)
    plugins.write("a.py", f"import _words\n{plain('a')}")
    assert await plugins.tools() == {}
    assert await plugins.faults() == {
        "plugin z.py": "z.py is a link, which is not run. Put a copy there.",
        "plugin a.py": "_words.py is a link, which is not run. Put a copy there.",
    }
    plugins.write("b.py", plain("b"))
    assert [*await plugins.tools()] == ["b"]
    assert caplog.text.count("z.py is a link") == 1
    (plugins.folder / "z.py").unlink()
    plugins.write("z.py", draft.read_text())
    assert [*await plugins.tools()] == ["b", "linked"]


async def test_who_wins(plugins: PluginFolder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    value = "async def execute(self, **kwargs): return {!r}"
    plugins.write("b.py", plain("same", value.format("b")) + plain("other"))
    plugins.write("a.py", plain("same", value.format("a")))
    plugins.write("c.py", plain("read_file") + plain("exec") + plain("fine"))
    assert [*await plugins.tools()] == ["same", "other", "fine"]
    assert await plugins.result("same") == "a"
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "Registered plugin tool 'same'",
        "Plugin tool 'same' skipped — a plugin before it has this name",
        "Registered plugin tool 'other'",
        "Plugin tool 'read_file' skipped — built-in takes priority",
        "Plugin tool 'exec' skipped — built-in takes priority",
        "Registered plugin tool 'fine'",
    ]
    caplog.clear()
    await plugins.tools()
    assert not caplog.records


NAMELESS = "class T(Tool):\n    description = ''\n    parameters = {'type': 'object'}\n    "
BROKEN = {
    "def broken(:": "SyntaxError: invalid syntax (broken.py, line 2)",
    "import does_not_exist": "ModuleNotFoundError: No module named 'does_not_exist' (broken.py, line 2)",
    "import sys\nsys.exit(3)": "SystemExit: 3 (broken.py, line 3)",
    "raise KeyboardInterrupt": "KeyboardInterrupt (broken.py, line 2)",
    "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E": "E: <exception str() failed>",
    "'\0'": "null bytes",
    "x = 1": "no subclass of Tool",
    plain("t", "def __init__(self, other): pass\nasync def execute(self): pass"): "missing 1 required",
    plain("t", "def __init__(self): exit()\nasync def execute(self): pass"): "T: SystemExit",
    plain("t", "no_execute = 1"): "abstract method",
    f"{NAMELESS}async def execute(self): pass": "abstract method",
    plain("t", "@property\ndef description(self): 1 / 0\ndef execute(self): pass"): "ZeroDivisionError",
    plain("t", "description = 5\ndef execute(self): pass"): "The description is no text",
    plain("t", "description = '\\ud800'\ndef execute(self): pass"): "The description is no text",
    plain("t", "parameters = None\ndef execute(self): pass"): 'no JSON Schema with "type": "object"',
    plain("t", "parameters = {'type': 'string'}\ndef execute(self): pass"): 'no JSON Schema with "type"',
    plain("t", "parameters = {'type': 'object', 'x': {1}}\ndef execute(self): pass"): "written as JSON",
    plain(
        "t", "parameters = {'type': 'object', 'properties': 1}\ndef execute(self): pass"
    ): "valid JSON Schema",
    plain(
        "t", "parameters = {'type': 'object', 'required': 'a'}\ndef execute(self): pass"
    ): "valid JSON Schema",
    plain(
        "t", "parameters = {'type': 'object', 'properties': {'a': {'type': 'int'}}}\ndef execute(self): pass"
    ): "valid JSON Schema",
    plain("t", "name = ''\ndef execute(self): pass"): "The name '' is not 1 to 64",
    plain("t", "name = 'a.b'\ndef execute(self): pass"): "The name 'a.b' is not 1 to 64",
    plain("t", "name = 'a' * 65\ndef execute(self): pass"): "is not 1 to 64",
    plain("t", "name = None\ndef execute(self): pass"): "The name None is not",
    plain("t", "time_limit = 'long'\ndef execute(self): pass"): "could not convert string to float",
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.items())
async def test_what_is_broken_is_skipped_and_named(
    plugins: PluginFolder, source: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.write("a.py", plain("before"))
    plugins.write("broken.py", f"from nanobot.agent.tools import Tool\n{source}\n")
    plugins.write("c.py", plain("after"))
    assert [*await plugins.tools()] == ["before", "after"]
    assert reason in (await plugins.faults())["plugin broken.py"]
    assert "Failed to load plugin broken.py: " in caplog.text
    assert await plugins.result("after", value="still here") == "still here"


async def test_a_broken_class_leaves_the_others_of_its_file(plugins: PluginFolder) -> None:
    broken = plain("broken", "def __init__(self): raise ValueError('no key')\nasync def execute(self): pass")
    plugins.write("a.py", f"{plain('first')}\n{broken}\n{plain('last')}")
    assert [*await plugins.tools()] == ["first", "last"]
    assert (await plugins.faults())["plugin a.py"].startswith("Broken: ValueError: no key (a.py, line ")


async def test_what_is_no_file_is_skipped(plugins: PluginFolder) -> None:
    (plugins.folder / "folder.py").mkdir()
    os.mkfifo(plugins.folder / "pipe.py")
    (plugins.folder / "nowhere.py").symlink_to("missing")
    plugins.write("latin.py", "").write_bytes(b"# coding: latin-1\nx = '\xe4'\n" + plain("latin").encode())
    plugins.write("binary.py", "").write_bytes(b"\xff\xfe\x00")
    assert [*await plugins.tools()] == ["latin"]
    assert {*await plugins.faults()} == {
        f"plugin {name}.py" for name in ("folder", "pipe", "nowhere", "binary")
    }


async def test_a_folder_that_is_missing_or_empty_costs_nothing(plugins: PluginFolder) -> None:
    finders = list(sys.meta_path)
    assert await plugins.tools() == {}
    plugins.folder.rmdir()
    assert await plugins.tools() == {}
    plugins.folder.write_text("a file")
    assert await plugins.tools() == {}
    assert sys.meta_path == finders


# -- changes


async def test_changes_count_from_the_next_turn(plugins: PluginFolder) -> None:
    value = "def execute(self, **kwargs): return {!r}"
    plugins.write("keep.py", plain("keep"))
    plugins.write("a.py", plain("a", value.format("old")))
    before = await plugins.tools()
    assert await plugins.result("a") == "old"
    plugins.write("a.py", plain("a", value.format("new")))  # as long as before
    plugins.write("b.py", plain("b"))
    assert await plugins.result("a") == "new"
    after = await plugins.tools()
    assert [*after] == ["a", "b", "keep"]
    assert after["keep"] is before["keep"]
    assert await plugins.source.tools() is await plugins.source.tools()
    (plugins.folder / "a.py").unlink()
    assert [*await plugins.tools()] == ["b", "keep"]
    assert "nanobot_plugin_a" not in sys.modules


async def test_a_repaired_plugin_works_and_a_broken_one_goes(plugins: PluginFolder) -> None:
    plugins.write("a.py", "oh no")
    assert await plugins.tools() == {}
    plugins.write("a.py", plain("a"))
    assert [*await plugins.tools()] == ["a"]
    plugins.write("a.py", "oh no again")
    assert await plugins.tools() == {}


async def test_a_name_is_free_when_its_first_owner_is_gone(plugins: PluginFolder) -> None:
    value = "def execute(self, **kwargs): return {!r}"
    plugins.write("a.py", plain("same", value.format("a")))
    plugins.write("b.py", plain("same", value.format("b")))
    assert await plugins.result("same") == "a"
    (plugins.folder / "a.py").unlink()
    assert await plugins.result("same") == "b"


async def test_helpers_can_be_imported_and_changed(plugins: PluginFolder) -> None:
    plugins.write("a.py", f"import _words\n{plain('a', 'def execute(self, **kwargs): return _words.HELLO')}")
    late = "def execute(self, **kwargs):\n    import _words\n    return _words.HELLO"
    plugins.write("b.py", plain("b", late))
    assert "No module named '_words'" in (await plugins.faults())["plugin a.py"]
    plugins.write("_words.py", "HELLO = 'hello'\n")
    assert [await plugins.result("a"), await plugins.result("b")] == ["hello", "hello"]
    plugins.write("_words.py", "HELLO = 'salut'\n")
    assert [await plugins.result("a"), await plugins.result("b")] == ["salut", "salut"]
    await plugins.source.aclose()
    assert "_words" not in sys.modules


async def test_a_plugin_may_stand_on_another(plugins: PluginFolder) -> None:
    base = plain("base", "greeting = 'hello'\ndef execute(self, **kwargs): return self.greeting")
    plugins.write("base.py", base)
    plugins.write("tool.py", "from base import Base\nclass Mine(Base):\n    name = 'mine'\n")
    assert [*await plugins.tools()] == ["base", "mine"]
    assert await plugins.result("mine") == "hello"
    plugins.write("base.py", base.replace("hello", "salut"))
    assert await plugins.result("mine") == "salut"


async def test_libraries_win_over_plugins_of_their_name(plugins: PluginFolder) -> None:
    sys.modules.pop("colorsys", None)
    plugins.write("colorsys.py", plain("mine"))
    plugins.write(
        "json.py", plain("json", "def execute(self, **kw):\n    import json\n    return json.dumps(1)")
    )
    assert [*await plugins.tools()] == ["mine", "json"]
    assert await plugins.result("json") == "1"
    import colorsys

    assert colorsys.rgb_to_hls
    assert json.dumps(1) == "1"


async def test_dataclasses_and_no_bytecode(plugins: PluginFolder) -> None:
    source = plain("a", "count: 'int' = 3\ndef execute(self, **kwargs): return self.count")
    source = source.replace("class A", "@dataclasses.dataclass\nclass A")
    plugins.write("a.py", f"from __future__ import annotations\nimport dataclasses\n{source}")
    plugins.write("_h.py", "")
    plugins.write("b.py", f"import _h\n{plain('b')}")
    assert await plugins.result("a") == "3"
    assert [*plugins.folder.glob("__pycache__")] == []


async def test_the_app_offers_them_after_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NANOBOT_HOME", str(tmp_path))
    config = Config.model_validate({"tools": {"exec": {"enabled": False}, "restrictToWorkspace": True}})
    async with open_app(config) as app:
        built_in = app.tools.by_name
        (app.workspace / "tools" / "a.py").write_text(plain("exec") + plain("mine") + plain("cron"))
        await app.tools.refresh()
        assert [*app.tools.by_name] == [*built_in, "mine"]
        definitions = app.tools.definitions
        await app.tools.refresh()
        assert app.tools.definitions is definitions
        reports = {report.name: (report.origin, report.skipped) for report in await app.tools.report()}
        assert reports["mine"] == ("plugin a.py", "")
        assert reports["exec"] == ("plugin a.py", "built-in takes priority")
        assert reports["read_file"] == ("built-in", "")
    assert "nanobot_plugin_a" not in sys.modules


# -- descriptions

KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "enum",
        "anyOf",
        "allOf",
        "$ref",
        "$defs",
        "default",
        "a",
        "b",
    ]
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text(max_size=4)
    | st.sampled_from(["string", "object"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=6,
)
SCHEMAS = st.dictionaries(KEYWORDS, JSON_VALUES, max_size=4).map(lambda schema: schema | {"type": "object"})


class Sample(Tool):
    name = "sample"
    description = "A test."
    parameters: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, schema: dict[str, Any]) -> None:
        self.parameters = schema

    async def execute(self, **kwargs: Any) -> str:
        return ""


@settings(max_examples=300, deadline=None)
@given(schema=SCHEMAS, arguments=st.dictionaries(st.sampled_from("abc"), JSON_VALUES, max_size=2))
def test_accepted_parameters_do_no_harm(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    try:
        tool = Sample(_checked_schema(schema))
    except ToolError:
        return
    registry = Toolbox([tool])
    assert registry.definitions[0].parameters == schema
    assert registry.hint(ToolCall("1", "sample", arguments)).startswith("sample(")
    json.dumps(plain_schema(schema), ensure_ascii=False).encode()
    with contextlib.suppress(ToolError):
        registry.validate(tool, arguments)
