"""Who may find what: groups see only themselves, and nobody else sees them."""

from __future__ import annotations

import pytest

from nanobot.memory.recall import MemorySection
from nanobot.memory.search_index import SearchScope
from nanobot.messages import InboundMessage
from tests.memory.harness import World
from tests.talk import message_in

OWN = SearchScope("telegram:1")
FAMILY = SearchScope("telegram:-5", is_group=True)


@pytest.fixture
async def full(world: World) -> World:
    await world.say("telegram:1", "Private kayak", "Yes.")
    await world.say("telegram:2", "Other kayak", "Yes.")
    await world.say("cli:direct", "Terminal kayak", "Yes.")
    await world.say("telegram:-5", "Family kayak", "Yes.", is_group=True)
    await world.say("telegram:-6", "Club kayak", "Yes.", is_group=True)
    world.remember(
        "- Owner kayak fact",
        "- Learned kayak fact <!-- 2026-01-01 telegram:2#1 -->",
        "- Family kayak fact <!-- 2026-01-01 group telegram:-5#1 -->",
        "- Club kayak fact <!-- 2026-01-01 group telegram:-6#1 -->",
        "- Nobody's kayak fact <!-- group -->",
    )
    world.remember(
        "[2026-01-02 10:00] Private kayak story <!-- telegram:1#1-2 -->",
        "[2026-01-02 10:00] Family kayak story <!-- group telegram:-5#1-2 -->",
        file="HISTORY.md",
    )
    return world


OWNERS = {"Owner kayak fact", "Learned kayak fact", "Private kayak story"}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (OWN, {*OWNERS, "Private kayak"}),
        (SearchScope("telegram:9"), OWNERS),
        (SearchScope("telegram:1", reach="all"), {*OWNERS, "Private kayak", "Other kayak", "Terminal kayak"}),
        (FAMILY, {"Family kayak", "Family kayak fact", "Family kayak story"}),
        (
            SearchScope("telegram:-5", True, "all"),
            {"Family kayak", "Family kayak fact", "Family kayak story"},
        ),
        (SearchScope("telegram:-7", True), set()),
        (SearchScope("telegram:-5"), OWNERS),
    ],
)
async def test_what_is_found(full: World, scope: SearchScope, expected: set[str]) -> None:
    found = await full.texts("kayak", scope, 50)
    assert {text for text in found if "kayak" in text} == expected
    assert {text for text in await full.texts("today", scope, 50) if "kayak" in text} <= expected


async def test_the_owner_at_the_shell_finds_everything(full: World) -> None:
    assert len([text for text in await full.texts("kayak", limit=50) if "kayak" in text]) == 12


@pytest.mark.parametrize(
    ("scope", "name", "visible"),
    [
        (OWN, "telegram:1#1", True),
        (OWN, "telegram:2#1", False),
        (OWN, "telegram:-5#1", False),
        (SearchScope("telegram:1", reach="all"), "telegram:2#1", True),
        (SearchScope("telegram:1", reach="all"), "telegram:-5#1", False),
        (FAMILY, "telegram:-5#1", True),
        (FAMILY, "telegram:1#1", False),
        (SearchScope(reach="everything"), "telegram:-6#1", True),
    ],
)
async def test_a_message_by_its_id(full: World, scope: SearchScope, name: str, visible: bool) -> None:
    hits = await full.find(name, scope)
    assert any(hit.kind == "message" for hit in hits) == visible


def turn(session: str, is_group: bool = False) -> InboundMessage:
    return message_in(session, is_group=is_group)


async def test_the_prompt_follows_the_same_rules(full: World) -> None:
    section = MemorySection(full.folder, 6144)
    private = section.text(turn("telegram:1"))
    assert private.splitlines()[1:] == ["- Owner kayak fact", "- Learned kayak fact (2026-01-01)"]
    assert section.text(turn("cli:direct")) == private
    assert section.text(turn("telegram:-5", True)).splitlines()[1:] == ["- Family kayak fact (2026-01-01)"]
    assert section.text(turn("telegram:-7", True)) == ""
