"""The head of a SKILL.md: read by hand where it is simple, by PyYAML otherwise, and the same either way."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nanobot.skills import front_matter


def test_what_is_simple_needs_no_yaml() -> None:
    head = 'name: tmux\n# a comment\ndescription: "Quoted: text"\nalways: true\n'
    head += 'metadata: {"nanobot": {"os": []}}\n'
    assert front_matter.read_simple(head) == {
        "name": "tmux",
        "description": "Quoted: text",
        "always": "true",
        "metadata": {"nanobot": {"os": []}},
    }


def test_splitting() -> None:
    assert front_matter.read("\ufeff---\r\nname: a\r\n---\r\n\r\nText\r\n") == ({"name": "a"}, "Text", "")
    assert front_matter.split("---\n---\n") == ("", "")
    assert front_matter.split("---\nname: a\n---") == ("name: a\n", "")
    for text in ("", "# Title", "---\nname: a\n", "--- \nname: a\n----\n", "\n---\na: b\n---\n"):
        with pytest.raises(ValueError, match="does not begin with front matter"):
            front_matter.split(text)
    with pytest.raises(ValueError, match="longer than"):
        front_matter.split(f"---\na: {'x' * 30_000}\n---\n")


@pytest.mark.parametrize(
    ("head", "keys"),
    [
        ("a: >\n  folded\n  text\n", {"a": "folded text\n"}),
        ("a:\n  b: [1, 2]\n  c: 2026-01-01\n", {"a": {"b": ["1", "2"], "c": "2026-01-01"}}),
        ("a: b # comment\n", {"a": "b"}),
        ("a: it is: so\n", {"a": "it is: so"}),
        ('a: say "x": so\nb:\n  - 1\n', {"a": 'say "x": so', "b": ["1"]}),
        (
            "metadata:\n  {\n    'nanobot': {'always': true,},\n  }\n",
            {"metadata": {"nanobot": {"always": "true"}}},
        ),
        ("a: !!python/object/apply:os.system [ls]\n", {"a": ["ls"]}),
    ],
)
def test_what_only_yaml_can_read(head: str, keys: object) -> None:
    assert front_matter.parse(head) == keys


@pytest.mark.parametrize(
    "head", ["just text\n", "- a\n- b\n", "a: [\n", "a: b\n c: d\n", "a: \x00\n", "[" * 5000, "- " * 5000]
)
def test_what_nobody_can_read_is_a_value_error(head: str) -> None:
    with pytest.raises(ValueError, match="front matter"):
        front_matter.parse(head)


def test_aliases_cannot_blow_up() -> None:
    bomb = "a0: &a0 x\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    assert front_matter.parse(bomb)["a0"] == "x"


LINE = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\r"), max_size=40)
VALUE = st.one_of(
    LINE,
    st.text(st.sampled_from("ab:#-?'\"\\{}[],&*!|>%@` \t.~1"), max_size=12),
    st.sampled_from(
        ["true", "1.5", "null", "2026-01-01", "~", "- x", "a #b", "a: b", '"q"', "'q'", "=", "<<"]
    ),
)


@given(st.lists(st.tuples(st.sampled_from(["name", "a-b", "x"]), VALUE), max_size=4))
def test_the_simple_reader_agrees_with_yaml_or_leaves_it_alone(lines: list[tuple[str, str]]) -> None:
    head = "".join(f"{key}: {value}\n" for key, value in lines)
    simple = front_matter.read_simple(head)
    if simple is not None and "{" not in head:
        assert simple == (yaml.load(head, Loader=yaml.BaseLoader) or {})


@given(st.text(st.one_of(st.characters(), st.sampled_from("-:\n{}[]\"'&*# ")), max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    for head in (text, f"---\n{text}\n---\n"):
        with contextlib.suppress(ValueError):
            assert front_matter.parse(front_matter.split(head)[0]) is not None


def test_reading_the_bundled_skills_imports_no_yaml() -> None:
    code = (
        "import sys; from pathlib import Path; from nanobot.skills.library import SkillLibrary;"
        "print(len(SkillLibrary(Path('/nowhere')).usable()), 'yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["8", "False"]
