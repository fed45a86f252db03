"""The registry: fixed order, arguments checked and converted, one-line hints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanobot.agent.tools import Tool, ToolContext
from nanobot.agent.tools.registry import Toolbox
from nanobot.errors import ToolError
from nanobot.messages import ToolCall
from nanobot.security.files import PathPolicy
from nanobot.tools.filesystem import file_tools
from nanobot.tools.shell import Exec


class Sample(Tool):
    name = "sample"
    description = "A tool for tests."
    parameters: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, schema: dict[str, Any], name: str = "sample") -> None:
        self.parameters = schema
        self.name = name

    async def execute(self, **kwargs: Any) -> str:
        return json.dumps(kwargs)


def of(required: tuple[str, ...] = (), **properties: Any) -> Sample:
    return Sample({"type": "object", "properties": properties, "required": list(required)})


def validate(tool: Tool, **arguments: Any) -> dict[str, Any]:
    return Toolbox([tool]).validate(tool, arguments)


def failure(tool: Tool, **arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        validate(tool, **arguments)
    return str(caught.value)


@pytest.fixture
def registry(tmp_path: Path) -> Toolbox:
    paths = PathPolicy(tmp_path, restrict=False)
    return Toolbox(
        [*file_tools(paths), Exec(ToolContext(tmp_path, None, str(tmp_path), 60, False, None), paths)]
    )


def test_definitions_keep_their_order_and_are_small(registry: Toolbox) -> None:
    names = [definition.name for definition in registry.definitions]
    assert names == ["read_file", "write_file", "edit_file", "list_dir", "exec"]
    for definition in registry.definitions:
        size = len(json.dumps([definition.name, definition.description, dict(definition.parameters)]))
        assert size <= 350


def test_of_two_tools_of_one_name_the_first_counts() -> None:
    first = of()
    assert Toolbox([first, of()]).get("sample") is first


def test_an_unknown_tool_names_the_nearest(registry: Toolbox) -> None:
    with pytest.raises(ToolError, match="read_file"):
        registry.get("readfile")
    with pytest.raises(ToolError, match="exec"):
        registry.get("zzz")


def test_errors_name_the_argument_and_the_signature(registry: Toolbox) -> None:
    tool = registry.get("read_file")
    assert failure(tool) == (
        "'path' is a required property. "
        "read_file takes: path (string, required), offset (integer), limit (integer), encoding (string)."
    )
    assert "Argument 'offset': 'many' is not of type 'integer'" in failure(tool, path="a", offset="many")
    assert "Argument 'offset': 0 is less than the minimum of 1" in failure(tool, path="a", offset=0)
    assert "Argument 'path': None is not of type 'string'" in failure(tool, path=None)
    wrong_name = failure(tool, file_path="a")
    assert "Unknown argument 'file_path'" in wrong_name
    assert "path (string, required)" in wrong_name


@pytest.mark.parametrize(
    ("schema", "given_value", "fitted"),
    [
        ({"type": "integer"}, "5", 5),
        ({"type": "integer"}, 5.0, 5),
        ({"type": "integer"}, " 7 ", 7),
        ({"type": "number"}, "2.5", 2.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "False", False),
        ({"type": "string"}, 5, "5"),
        ({"type": "string"}, "5", "5"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "object", "properties": {"n": {"type": "integer"}}}, '{"n": 3}', {"n": 3}),
        ({"type": ["integer", "null"]}, 4, 4),
        ({}, "5", "5"),
    ],
)
def test_safe_conversions(schema: dict[str, Any], given_value: Any, fitted: Any) -> None:
    result = validate(of(("value",), value=schema), value=given_value)["value"]
    assert result == fitted
    assert type(result) is type(fitted)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, "5.5"),
        ({"type": "integer"}, True),
        ({"type": "integer"}, "1" * 5000),
        ({"type": "boolean"}, "yes"),
        ({"type": "boolean"}, 1),
        ({"type": "array"}, "a"),
        ({"type": "array"}, "[" * 100_000),
        ({"type": "string"}, ["a"]),
        ({"type": "string", "enum": ["a", "b"]}, "c"),
        ({"type": "array", "items": {"type": "integer"}}, [1, "x"]),
        ({"type": "array", "maxItems": 1}, [1, 2]),
        ({"type": "string", "minLength": 1}, ""),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x"),
        ({"type": "string", "pattern": "^a"}, "b"),
    ],
)
def test_what_does_not_fit_is_refused_naming_the_argument(schema: dict[str, Any], value: Any) -> None:
    message = failure(of(value=schema), value=value)
    assert "'value" in message
    assert len(message) < 500


def test_the_place_of_an_error_deep_inside_is_named() -> None:
    inner = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool = of(items={"type": "array", "items": inner})
    assert "Argument 'items.1.n'" in failure(tool, items=[{"n": 1}, {"n": "x"}])
    assert "Argument 'items.0'" in failure(tool, items=[{}])


def test_unknown_and_null_options_are_dropped() -> None:
    tool = of(("a",), a={"type": "string"}, b={"type": "integer"})
    assert validate(tool, a="x", b=None, zzz=1) == {"a": "x"}
    open_schema = {"type": "object", "properties": {"a": {}}, "additionalProperties": True}
    assert validate(Sample(open_schema), a=1, z=2) == {"a": 1, "z": 2}
    assert validate(Sample({"type": "object"}), z=2) == {"z": 2}


def test_schemas_of_others_are_checked_in_full_and_never_fetched() -> None:
    defs = {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}
    assert validate(Sample(defs), n=1) == {"n": 1}
    assert "'n'" in failure(Sample(defs), n="x")
    remote = {"type": "object", "properties": {"n": {"$ref": "http://127.0.0.1:9/schema.json"}}}
    assert "schema is broken" in failure(Sample(remote), n=1)
    assert "schema is broken" in failure(
        Sample({"type": "object", "properties": {"n": {"type": "int"}}}), n=1
    )


LADDER = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(60)} | {"s60": {}}


@pytest.mark.parametrize(
    ("inner", "more", "value"),
    [
        ({"type": "string", "pattern": "^(a+)+$"}, {}, "a" * 60 + "!"),
        ({"type": "array", "items": {"pattern": "^(a+)+$"}}, {}, ["a" * 60 + "!"]),
        ({"type": "object", "patternProperties": {"^(a+)+$": {"type": "null"}}}, {}, {"a" * 60 + "!": 1}),
        ({"type": "object", "propertyNames": {"pattern": "^(a|a)*$"}}, {}, {"a" * 60 + "!": 1}),
        ({"$ref": "#/$defs/s0"}, {"$defs": LADDER}, 1),
        ({"anyOf": [{"$ref": "#/$defs/r"}]}, {"$defs": {"r": {"anyOf": [{"$ref": "#/$defs/r"}] * 3}}}, 1),
        ({"type": "array", "uniqueItems": True}, {}, [{"n": number} for number in range(20_000)]),
        ({"type": "array", "items": {"enum": list(range(100_000))}}, {}, [-1] * 10_000),
        ({"type": "nonsense", "pattern": "("}, {"patternProperties": {"^(a+)+$": {}}}, "x"),
        ({"type": ["string", "null"]}, {}, 5),
    ],
)
def test_what_an_mcp_server_wants_of_values_is_judged_by_the_server(
    inner: dict[str, Any], more: dict[str, Any], value: Any
) -> None:
    tool = Sample(
        {"type": "object", "properties": {"x": inner, "n": {"type": "integer"}}, "required": ["x"], **more}
    )
    tool.origin = "mcp"
    assert validate(tool, x=value, n="5") == {"x": value, "n": 5}
    assert "'x' is a required property" in failure(tool, n=5)
    assert "'n'" in failure(tool, x=value, n="many")


VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text("ab1", max_size=3)
PROPERTY = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["string", "integer", "number", "boolean", "array"]),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "minimum": st.integers(-2, 2),
        "maximum": st.integers(-2, 2),
        "minLength": st.integers(0, 2),
    },
)


@settings(max_examples=300, deadline=None)
@given(
    properties=st.dictionaries(st.sampled_from("abc"), PROPERTY, max_size=3),
    required=st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    arguments=st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3),
)
def test_what_is_accepted_fits_the_schema(
    properties: dict[str, Any], required: list[str], arguments: dict[str, Any]
) -> None:
    schema = {"type": "object", "properties": properties, "required": required}
    tool = Sample(schema)
    try:
        fitted = validate(tool, **arguments)
    except ToolError:
        return
    assert jsonschema.Draft202012Validator(schema).is_valid(fitted)


def test_checking_the_own_tools_does_not_import_jsonschema() -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from nanobot.tools.filesystem import ReadFile\n"
        "from nanobot.agent.tools.registry import Toolbox\n"
        "from nanobot.security.files import PathPolicy\n"
        "tool = ReadFile(PathPolicy(Path('.'), restrict=False))\n"
        "Toolbox([tool]).validate(tool, {'path': 'a', 'offset': '3'})\n"
        "sys.exit('jsonschema' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "arguments", "hint"),
    [
        ("read_file", {"limit": 5, "path": "notes.md"}, 'read_file("notes.md")'),
        ("exec", {"command": "ls\n\x1b[31m -la"}, 'exec("ls\\n\\u001b[31m -la")'),
        ("web_search", {"query": "größe"}, 'web_search("größe")'),
        ("other", {}, "other()"),
        ("evil\n\u202e", {"n": 5}, "evil  (5)"),
    ],
)
def test_hints(registry: Toolbox, name: str, arguments: dict[str, Any], hint: str) -> None:
    assert registry.hint(ToolCall("1", name, arguments)) == hint


@given(name=st.text(max_size=100), value=st.text(max_size=300) | VALUES)
def test_hints_are_one_short_printable_line(name: str, value: Any) -> None:
    hint = Toolbox([]).hint(ToolCall("1", name, {"a": value}))
    assert len(hint) <= 80
    assert hint.isprintable()
