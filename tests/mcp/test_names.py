"""What servers say about their tools becomes valid, unique and harmless."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanobot.mcp.names import DESCRIPTION_CHARS, ToolNames, fit_schema, printable_text

VALID_KEY = re.compile(r"[a-zA-Z0-9_.-]+")
VALID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.tuples(st.text(max_size=70), st.text(max_size=70)), unique=True, max_size=30))
def test_names_are_valid_unique_and_stay(pairs: list[tuple[str, str]]) -> None:
    names = ToolNames(server for server, _ in pairs)
    first = [names.name(*pair) for pair in pairs]
    assert all(VALID.fullmatch(name) for name in first)
    assert len({*first}) == len(first)
    assert [names.name(*pair) for pair in reversed(pairs)] == first[::-1]


def test_a_plain_name_is_kept_and_a_clash_gets_the_same_suffix_in_every_process() -> None:
    one, two = ToolNames(), ToolNames()
    assert one.name("github", "create_issue") == "mcp_github_create_issue"
    assert one.name("a", "b.c") == two.name("a", "b.c") == "mcp_a_b_c"
    assert one.name("s", "n" * 100) == two.name("s", "n" * 100)


@pytest.mark.parametrize("order", list(itertools.permutations([("a", "b_c"), ("a_b", "c"), ("a", "c")])))
def test_a_name_belongs_to_the_server_it_names_whoever_is_faster(order: list[tuple[str, str]]) -> None:
    names = ToolNames(["a", "a_b"])
    given = {pair: names.name(*pair) for pair in order}
    assert given["a_b", "c"] == "mcp_a_b_c"
    assert given["a", "c"] == "mcp_a_c"
    assert given["a", "b_c"] == ToolNames(["a_b", "a"]).name("a", "b_c") != "mcp_a_b_c"


def test_of_two_servers_whose_names_look_alike_neither_has_the_plain_name() -> None:
    names = ToolNames(["a.b", "a_b"])
    given = [names.name("a.b", "c"), names.name("a_b", "c")]
    assert "mcp_a_b_c" not in given
    assert given == [ToolNames(["a_b", "a.b"]).name(server, "c") for server in ("a.b", "a_b")]


@given(st.text(), st.integers(2, 50))
def test_texts_are_bounded_and_have_no_control_characters(text: str, limit: int) -> None:
    plain = printable_text(text, limit)
    assert len(plain) <= limit
    assert all(char.isprintable() or char == "\n" for char in plain)


def test_an_escape_sequence_is_disarmed() -> None:
    assert printable_text("a\x1b[31mb\u202ec\u200bd", 100) == "a[31mbcd"
    assert len(printable_text("x" * 10_000, DESCRIPTION_CHARS)) == DESCRIPTION_CHARS


KEYWORDS = [
    "properties",
    "required",
    "type",
    "pattern",
    "items",
    "$ref",
    "$defs",
    "anyOf",
    "allOf",
    "$schema",
]


@given(st.dictionaries(st.sampled_from(KEYWORDS), JSON))
def test_any_schema_becomes_an_object_schema(schema: dict[str, Any]) -> None:
    tidy, real = fit_schema(schema)
    assert tidy["type"] == "object"
    assert not {"anyOf", "allOf", "oneOf", "$ref"} & {*tidy}
    assert {*tidy.get("required", ())} <= {*tidy["properties"]}
    assert all(VALID_KEY.fullmatch(key) for key in tidy["properties"])
    own = schema.get("properties")
    named = {real.get(key, key) for key in tidy["properties"]}
    assert named >= ({*own} if isinstance(own, dict) else set())
    assert len(named) == len(tidy["properties"])
    json.dumps(tidy)


def test_choices_and_references_at_the_top_are_put_together() -> None:
    text = {"type": "string"}
    schema = {
        "$ref": "#/$defs/Base",
        "$defs": {"Base": {"properties": {"base": text}}},
        "anyOf": [{"properties": {"a": text}, "required": ["a"]}, {"properties": {"b": text}}, True],
        "properties": {"own": text},
        "required": ["own"],
    }
    assert [*fit_schema(schema)[0]["properties"]] == ["base", "a", "b", "own"]
    assert fit_schema(schema)[0]["required"] == ["own"]


def test_property_names_that_providers_refuse_are_changed_and_known() -> None:
    properties: dict[str, Any] = {"$filter": {}, "_filter": {}, "ok": {}}
    fitted, real = fit_schema({"properties": properties, "required": ["$filter", "ok"]})
    assert [*fitted["properties"]] == ["_filter_2", "_filter", "ok"]
    assert fitted["required"] == ["_filter_2", "ok"]
    assert real == {"_filter_2": "$filter"}


def test_many_property_names_that_look_alike_are_told_apart_in_one_pass() -> None:
    fitted, real = fit_schema({"properties": {chr(0x4E00 + number): {} for number in range(20_000)}})
    assert len(fitted["properties"]) == len(real) == 20_000
    assert all(len(name) <= 64 for name in fitted["properties"])


def test_only_words_about_a_schema_are_touched() -> None:
    schema = {
        "properties": {
            "pattern": {"type": "string", "pattern": "^[a-z]+$", "default": "\x1b"},
            "description": {"description": "a\x00b" + "c" * 2_000, "enum": [{"pattern": "("}]},
        }
    }
    tidy = fit_schema(schema)[0]["properties"]
    assert tidy["pattern"] == {"type": "string", "pattern": "^[a-z]+$", "default": "\x1b"}
    assert tidy["description"]["description"].startswith("abc")
    assert len(tidy["description"]["description"]) == 1_000
    assert tidy["description"]["enum"] == [{"pattern": "("}]
