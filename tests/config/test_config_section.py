"""What a section takes for its fields: the same as pydantic's, whose part it plays."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ConfigDict, TypeAdapter, ValidationError

from nanobot.config.section import Reader, Section, key
from nanobot.errors import ConfigError

KINDS: list[Any] = [
    str,
    int,
    float,
    bool,
    int | None,
    list[str],
    dict[str, str],
    dict[str, list[int]],
    list[str] | None,
    Literal["queue", "steer"],
]
TEXTS = [
    "",
    "7",
    "-3",
    " 8 ",
    "1e3",
    "0.5",
    "abc",
    "0x10",
    "true",
    "No",
    "on",
    "queue",
    "\ud800",
    "nan",
    "9" * 400,
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(TEXTS)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TEXTS[1:11]), inner, max_size=2)
    ),
)


def holds(value: Any, found: Any) -> bool:
    """Whether `found` is anywhere in `value`."""
    inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    return found(value) or any(holds(item, found) for item in inner)


@given(st.sampled_from(KINDS), VALUES)
@example(int, 2.0**63)
@example(int, -(2.0**63))
@example(int, 2.0**62)
def test_values_are_taken_and_refused_as_pydantic_does(kind: Any, value: Any) -> None:
    reader = Reader()
    read = reader.read(kind, value, "x")
    strict = holds(value, lambda part: isinstance(part, bool)) and kind is not bool
    numeric = kind is bool and isinstance(value, float)  # 1.0 is no boolean here
    adapter = TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True))
    try:
        expected = adapter.validate_python(value)
    except ValidationError:
        assert reader.problems
    else:
        if not (strict or numeric):
            assert not reader.problems
            assert repr(read) == repr(expected)


class Inner(Section):
    size: int = key(3, "A size.", ge=1, le=9)


class Outer(Section):
    name: str = key("x", "A name.", min_length=2)
    rate: float = key(0.5, "A rate.", gt=0)
    secret: str = key("", "A key.", secret=True)
    inner: Inner = key(Inner, "A part.")
    many: dict[str, Inner] = key({}, "Parts by name.")
    plain: Inner = Inner(size=5)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"name": "a"}, "name: expected a text of a length of at least 2"),
        ({"rate": 0}, "rate: expected greater than 0"),
        ({"inner": {"size": 0}}, "inner.size: expected greater than or equal to 1"),
        ({"many": {"Any-Name": {"size": 10}}}, "many.Any-Name.size: expected less than or equal to 9"),
        ({"inner": {"size": 1.5}}, "inner.size: expected a valid integer"),
        ({"inner": []}, "inner: expected a valid dictionary"),
        ([], ": expected a valid dictionary"),
    ],
)
def test_limits_are_told_with_their_path(data: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.model_validate(data)
    assert str(caught.value) == problem


def test_sections_are_values() -> None:
    one, two = Outer.model_validate({"many": {"a": {"size": 2}}}), Outer(many={"a": Inner(size=2)})
    assert repr(one) == repr(two)
    assert one.model_fields_set == {"many"}
    assert Outer().plain.size == 5
    assert Outer().plain is not Outer().plain
    assert repr(Outer(secret="hunter2", name="me")).startswith(
        "Outer(name='me', rate=0.5, inner=Inner(size=3)"
    )
    with pytest.raises(TypeError, match="Outer has no nonsense"):
        Outer(nonsense=1)
