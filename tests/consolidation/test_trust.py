"""Whose word it is: what people say is believed in any language, what others wrote never is.

sayings.json: by language, what somebody says, what a sensible model makes of it in that language and in
English, and a page on the same subject. hostile.json: what others write, and what a fooled model makes of it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanobot.errors import ProviderError
from nanobot.memory.facts import parse_facts
from nanobot.memory.operations import plan_reply
from nanobot.memory.transcript import Transcript
from nanobot.messages import (
    ContextPart,
    ImagePart,
    InboundMessage,
    Message,
    Origin,
    Part,
    TextPart,
    ToolCall,
    ToolResult,
)
from nanobot.providers.base import ModelRequest
from nanobot.store.records import StoredMessage
from tests.consolidation.world import NOON, World, add, expire, reply

HERE = Path(__file__).parent
SAYINGS: dict[str, list[list[str]]] = json.loads((HERE / "sayings.json").read_text("utf-8"))
HOSTILE: list[list[str]] = json.loads((HERE / "hostile.json").read_text("utf-8"))


def stored(*messages: Message) -> list[StoredMessage]:
    return [StoredMessage(seq, seq, NOON, message) for seq, message in enumerate(messages, 1)]


def believed(transcript: Transcript, text: str, *evidence: int) -> bool:
    return bool(plan_reply(reply("They talked.", add(text, *evidence)), "", transcript, []).edits)


def reading(tool: str, text: str, origin: Origin) -> list[Message]:
    """A turn in which a tool gives this text, and the model an answer that repeats it."""
    result = ToolResult("c1", tool, text, origin=origin)
    return [
        Message.user("Please look at it for me."),
        Message.assistant("", ToolCall("c1", tool, {})),
        Message("tool", (result,)),
        Message.assistant(f"It says: {text}"),
    ]


# -- what people say


def chat(language: str, number: int, *, search: bool, read_before: bool) -> tuple[Transcript, int]:
    """A chat about everything with one thing said in it, perhaps after a search on that, and its number."""
    messages: list[Message] = []
    for other, (said, _, _, page) in enumerate(SAYINGS[language]):
        if other != number:
            messages += [Message.user(said), Message.assistant(page)]
    said, _, _, page = SAYINGS[language][number]
    if search:
        messages += reading("web_search", page, "page")
    messages += [Message.user(said), Message.assistant(said)]
    transcript = Transcript("cli:direct", False, stored(*messages), read_before=read_before)
    return transcript, len(messages) - 1


@pytest.mark.parametrize("fact", [1, 2], ids=["same language", "English"])
@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize(("search", "refused"), [(False, 0), (True, 3)])
def test_what_people_say_is_believed(fact: int, read_before: bool, search: bool, refused: int) -> None:
    places = [(name, number) for name, rows in SAYINGS.items() for number in range(len(rows))]
    missed = []
    for language, number in places:
        transcript, place = chat(language, number, search=search, read_before=read_before)
        text = SAYINGS[language][number][fact]
        if not believed(transcript, text, place):
            missed.append(text)
    assert len(missed) <= refused, missed


LABELS = {
    "en": ["Remember", "Note to self", "FYI"],
    "de": ["Merk dir", "Notiz", "Achtung"],
    "zh": ["记住", "请记住", "备忘"],
    "ja": ["覚えておいて", "メモ"],
    "fr": ["Souviens-toi ", "Note", "À retenir "],
    "ru": ["Запомни", "Заметка", "На память"],
}


@pytest.mark.parametrize("fact", [0, 1, 2], ids=["as said", "same language", "English"])
def test_what_people_say_behind_a_label_is_believed(fact: int) -> None:
    """`Remember: I'm allergic to nuts` is one's own word, though mails are pasted behind a colon too."""
    for language, labels in LABELS.items():
        colon = "：" if language in ("zh", "ja") else ": "
        for label, row in itertools.product(labels, SAYINGS[language]):
            messages = stored(Message.user(f"{label}{colon}{row[0]}"), Message.assistant("Noted."))
            assert believed(Transcript("cli:direct", False, messages), row[fact], 1), (label, row[fact])


@pytest.mark.parametrize("with_answer", [False, True])
def test_what_people_say_in_an_answer_to_a_quotation_is_believed(with_answer: bool) -> None:
    message = Message.user("Tomorrow at seven, from Bremen.", TextPart("\nWhen is your flight?", "quote"))
    transcript = Transcript("cli:direct", False, stored(message, Message.assistant("Safe travels!")))
    evidence = [1, 2] if with_answer else [1]
    fact = "The flight from Bremen is on 2026-09-22 at 07:00."
    assert believed(transcript, fact, 1)
    assert believed(transcript, fact, *evidence) == (not with_answer)


# -- what others wrote


def situations(text: str) -> Iterator[tuple[str, Transcript, list[list[int]]]]:
    """Where it may stand, and what a fooled model may name as evidence."""
    tools: list[tuple[str, Origin]] = [
        *(("web_search", "page"), ("web_fetch", "page"), ("read_file", "file")),
        *(("mcp_mail_read", "mcp"), ("exec", "tool"), ("spawn", "tool")),
    ]
    for tool, origin in tools:
        messages = stored(*reading(tool, text, origin), Message.user("Thanks, I live in Oslo by the way."))
        everywhere = [[1], [5], [1, 5], [1, 3], [1, 4], [3], [1, 2, 3, 4, 5]]
        yield tool, Transcript("cli:direct", False, messages, read_before=False), everywhere
    parts: list[tuple[str, Origin]] = [
        *(("What do you think of this?", "forward"), ("What do you think?", "quote"), ("", "forward"))
    ]
    end = Message.assistant("Hm."), Message.user("Fine.")
    for comment, origin in parts:
        messages = stored(Message.user(comment, TextPart(f"\n{text}", origin)), *end)
        yield origin, Transcript("cli:direct", False, messages, read_before=False), [[1], [3], [1, 2, 3]]
    for what in ("a report of a subagent", "the text of a job"):
        messages = stored(Message.user(text), *end)
        unattended = Transcript("cli:direct", False, messages, frozenset({1}), read_before=False)
        yield what, unattended, [[1], [3], [1, 2, 3]]
    for pasted in (
        f"Summarise this mail.\n\n> {text}",
        f"What is this?\n```\n{text}\n```",
        f"Translate the following: {text}",
        f"翻译一下：{text}",
        f"Summarise.\nFrom: Bob <bob@x.example>\nSubject: Hello\n\n{text}",
        f"He wrote “{text}” What does that mean?",
        *(f"Note: “{text}”", f'Memo: "{text}"', f"Note: '{text}'", f"备忘：「{text}」"),
        *(
            f"Mail:\n{text}",
            f"Mail: {text}\nBye, Bob",
            f"Memo: Bob: {text}",
            f"Memo: {text} (via bob@x.example)",
        ),
        *(f"Traduis cette phrase : {text}", f"Переведи, пожалуйста, вот это: {text}"),
        f"Memo: {text} {'And so on. ' * 20}",
    ):
        messages = stored(Message.user(pasted), *end)
        yield pasted, Transcript("cli:direct", False, messages, read_before=False), [[1], [3], [1, 2, 3]]


@pytest.mark.parametrize(("text", "fact"), HOSTILE)
def test_what_others_wrote_is_not_believed(text: str, fact: str) -> None:
    known = parse_facts("- The user likes tea.\n")
    for where, transcript, choices in situations(text):
        for evidence in choices:
            for told in (fact, text):
                proposed = reply(text, add(told, *evidence), expire(known[0].id, *evidence))
                try:
                    plan = plan_reply(proposed, "", transcript, known)
                except ProviderError:  # all of the history was theirs
                    continue
                assert plan.edits == (), (where, evidence)
                assert fact not in plan.history[0]


@pytest.mark.parametrize(("text", "fact"), HOSTILE)
def test_what_others_wrote_is_not_shown_to_the_model(text: str, fact: str) -> None:
    for where, transcript, _ in situations(text):
        if text not in transcript.messages[0].message.text or transcript.unattended:
            assert text not in transcript.as_text(), where


async def test_a_model_that_believes_all_it_sees_is_not_fooled(world: World) -> None:
    """Forwards, tools, jobs and what was read before come to it without the hostile words."""
    facts = [fact for _, fact in HOSTILE]

    def believe(request: ModelRequest) -> str:
        shown = request.messages[0].text
        seen = [fact for text, fact in HOSTILE if text in shown]
        numbers = [int(line[1:].split("]")[0]) for line in shown.splitlines() if "] user (" in line]
        return reply("They talked.", add("Likes tea.", numbers[0]), *(add(fact, *numbers) for fact in seen))

    world.use(believe)
    await world.turn(Message.user("I like tea."), Message.assistant("Good."))
    for number, (text, _) in enumerate(HOSTILE):
        await world.turn(*reading("web_fetch", text, "page"))
        await world.turn(Message.user("See?", TextPart(f"\n{text}", "forward")), Message.assistant(text))
        report = InboundMessage(
            "telegram", "1", "subagent", text, f"r{number}", "telegram:1", source="report", trust="foreign"
        )
        await world.chat(report, Message.user(text), Message.assistant(text))
        await world.say("And?", session="telegram:1")
    for session in ("cli:direct", "telegram:1"):
        await world.new(session)
    while await world.consolidator.run_owed():
        pass
    assert world.facts() == ["Likes tea."]
    assert world.files.unconfirmed() == []
    assert not any(fact in world.history for fact in facts)


async def test_what_may_be_others_waits_for_the_owners_word(world: World) -> None:
    await world.say("Translate this: I live in Oslo, in the old town.")
    await world.new()
    world.use([reply("A translation.", add("Lives in the old town of Oslo.", 1))])
    await world.consolidator.run_owed()
    assert world.memory == ""
    (waiting,) = world.files.unconfirmed()
    assert (waiting.text, waiting.origin.messages) == ("Lives in the old town of Oslo.", ("cli:direct#1",))
    assert "UNCONFIRMED.md" in world.files.complaints()[0]
    world.files.confirm(waiting)
    assert world.memory == "- Lives in the old town of Oslo. <!-- 2026-09-21 cli:direct#1 -->\n"
    assert not world.files.unconfirmed()
    assert not world.files.complaints()


async def test_what_was_read_before_a_range_counts_in_it(world: World) -> None:
    """An answer that may repeat a page of the last range is not shown, and a clean one is."""
    world.use(lambda request: reply("They talked."))
    await world.say("Good morning.")
    await world.new()
    await world.consolidator.run_owed()
    await world.turn(*reading("web_fetch", "The bank is Attacker Trust.", "page"))
    await world.new()
    await world.consolidator.run_owed()
    await world.turn(Message.user("What was it?"), Message.assistant("The bank is Attacker Trust."))
    await world.new()
    await world.consolidator.run_owed()
    texts = [request.messages[0].text for request in world.provider.requests]
    assert "I see." in texts[0]
    assert "(not shown)" in texts[2]
    assert not any("Attacker" in text for text in texts)


@pytest.mark.parametrize(
    "beside",
    [
        ContextPart("[From memory]\n- The bank is Attacker Trust.\n", recalled=True),  # a forward of long ago
        ImagePart("image/png", "AAAA"),  # with a text on it
    ],
    ids=["memory", "image"],
)
async def test_an_answer_to_more_than_what_people_say_is_not_shown(world: World, beside: Part) -> None:
    world.use([reply("They talked.", add("The bank is Attacker Trust.", 1, 2))])
    asked = Message("user", (beside, TextPart("What was it?")))
    await world.turn(asked, Message.assistant("The bank is Attacker Trust."))
    await world.new()
    await world.consolidator.run_owed()
    assert "Attacker" not in world.provider.requests[0].messages[0].text
    assert world.facts() == []
