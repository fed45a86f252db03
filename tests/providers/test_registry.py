from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nanobot
from nanobot.config.schema import ProvidersConfig
from nanobot.providers.base import ModelRequest
from nanobot.providers.registry import (
    PROVIDERS,
    ProviderSpec,
    family_of,
    find_spec,
    request_parameters,
    spec_named_by_prefix,
    specs_by_keyword,
    traits_of,
    wire_model,
)
from tests.providers.loopback import Loopback, chat_stream


def spec(name: str) -> ProviderSpec:
    found = find_spec(name)
    assert found is not None
    return found


def test_the_order_is_the_one_users_know():
    assert [row.name for row in PROVIDERS] == [
        "custom", "openrouter", "aihubmix", "siliconflow", "volcengine", "anthropic", "openai",
        "openai_codex", "github_copilot", "deepseek", "gemini", "zhipu", "dashscope", "moonshot", "minimax",
        "vllm", "groq",
    ]  # fmt: skip


def test_every_row_has_a_config_section_and_the_reverse():
    assert {row.name for row in PROVIDERS} == set(ProvidersConfig.model_fields)


@pytest.mark.parametrize("row", [row for row in PROVIDERS if row.needs_key and not row.oauth])
def test_a_keyed_row_says_how_to_reach_it(row: ProviderSpec):
    assert row.default_api_base.startswith("https://")
    assert row.env_key.endswith("_API_KEY")
    assert row.display_name


@pytest.mark.parametrize("row", [row for row in PROVIDERS if row.default_model])
def test_a_default_model_leads_back_to_its_provider(row: ProviderSpec):
    assert spec_named_by_prefix(row.default_model) is row


def test_dash_and_underscore_are_the_same():
    assert find_spec("openai-codex") is find_spec("openai_codex")
    assert spec_named_by_prefix("github-copilot/gpt-5") is find_spec("github_copilot")
    assert find_spec("nobody") is None


@pytest.mark.parametrize(
    ("provider", "written", "sent"),
    [
        ("openrouter", "anthropic/claude-opus-4-5", "anthropic/claude-opus-4-5"),
        ("openrouter", "openrouter/anthropic/claude-opus-4-5", "anthropic/claude-opus-4-5"),
        ("openrouter", "openrouter/auto", "openrouter/auto"),
        ("aihubmix", "anthropic/claude-opus-4-5", "claude-opus-4-5"),
        ("siliconflow", "siliconflow/deepseek-ai/DeepSeek-V3.2", "deepseek-ai/DeepSeek-V3.2"),
        ("anthropic", "anthropic/claude-opus-4-5", "claude-opus-4-5"),
        ("zhipu", "zai/glm-4.6", "glm-4.6"),
        ("zhipu", "ZHIPU/glm-4.6", "glm-4.6"),
        ("vllm", "hosted-vllm/meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("vllm", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("groq", "groq/openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("custom", "your-model-name", "your-model-name"),
    ],
)
def test_prefixes_are_stripped_before_the_request(provider: str, written: str, sent: str):
    assert wire_model(spec(provider), written) == sent


@given(st.text(min_size=1).filter(lambda name: "/" not in name), st.sampled_from(PROVIDERS))
def test_a_bare_name_reaches_every_provider_as_written(name: str, row: ProviderSpec):
    assert wire_model(row, name) == name
    if not row.names_have_slash:
        assert wire_model(row, f"{row.name}/{name}") == name


def test_keywords_come_in_registry_order():
    assert [row.name for row in specs_by_keyword("DeepSeek-R1-Distill-Qwen-7B")] == ["deepseek", "dashscope"]
    assert specs_by_keyword("llama3.2") == []


def sent(row: ProviderSpec, model: str) -> dict[str, object]:
    return request_parameters(row, ModelRequest(model, "", [], [], 100, 0.5))


@pytest.mark.parametrize("model", ["gpt-5.1", "openai/o3-mini", "openrouter/openai/gpt-5", "kimi-k3"])
def test_reasoning_models_take_no_temperature_and_another_limit(model: str):
    assert sent(spec("openrouter"), model).keys() == {"model", "stream", "max_completion_tokens"}


@pytest.mark.parametrize("model", ["phi-o1-tuned", "deepseek-chat", "qwen-turbo1"])
def test_a_family_is_known_by_its_beginning_only(model: str):
    assert sent(spec("openrouter"), model) == {
        "model": model, "stream": True, "max_tokens": 100, "temperature": 0.5,
    }  # fmt: skip


def test_the_owners_overrides_win():
    row = ProviderSpec("x", (), "", model_overrides=(("kimi-k2.5", {"temperature": 1.0}),))
    assert sent(row, "moonshot/kimi-k2.5")["temperature"] == 1.0
    left_out = ProviderSpec("x", (), "", model_overrides=(("some", {"temperature": None}),))
    assert "temperature" not in sent(left_out, "some-model")


def test_traits():
    assert traits_of("anthropic/claude-opus-4-5").context_window == 200_000
    assert traits_of("anthropic/claude-opus-4-5").supports_images
    assert not traits_of("deepseek-chat").supports_images
    assert traits_of("something-new").context_window == 128_000
    assert family_of("moonshot/kimi-k2.5").replay_reasoning


RECIPE_STEP_1 = """
    ProviderSpec(
        name="myprovider",                   # config field name
        keywords=("myprovider", "mymodel"),  # model-name keywords for auto-matching
        env_key="MYPROVIDER_API_KEY",        # env var for LiteLLM
        display_name="My Provider",          # shown in `nanobot status`
        litellm_prefix="myprovider",         # auto-prefix: model → myprovider/model
        skip_prefixes=("myprovider/",),      # don't double-prefix
    ),
"""
RECIPE_STEP_2 = "    myprovider: ProviderConfig = ProviderConfig()\n"

ASK_MYPROVIDER = """
import asyncio, json, os, sys
from nanobot.config.schema import Config
from nanobot.errors import NoProviderError
from nanobot.messages import Message
from nanobot.providers.base import ModelRequest
from nanobot.providers.resolve import open_provider, resolve

async def ask(providers, model):
    config = Config.model_validate({"providers": providers})
    resolution = await resolve(config, model, probe=False)
    provider = open_provider(resolution, config)
    request = ModelRequest(resolution.model, "", [Message.user("hi")], [], 10)
    events = [event async for event in provider.stream(request)]
    await provider.aclose()
    return [resolution.provider_name, resolution.spec.title, resolution.source, events[-1].message.text]

async def main(base):
    by_key = await ask({"myprovider": {"apiKey": "from-config", "apiBase": base}}, "mymodel-7b")
    by_variable = await ask({"myprovider": {"apiBase": base}}, "myprovider/mymodel-7b")
    try:
        await ask({}, "mymodel-7b")
    except NoProviderError as error:
        print(json.dumps([by_key, by_variable, str(error)]))

asyncio.run(main(sys.argv[1]))
"""


def patched_package(folder: Path) -> Path:
    """A copy of nanobot, changed as a reader of the README would."""
    package = folder / "nanobot"
    source = Path(nanobot.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, anchor, lines in [
        ("providers/registry.py", "PROVIDERS: tuple[ProviderSpec, ...] = (", RECIPE_STEP_1),
        ("config/schema.py", "    custom: ProviderConfig = ProviderConfig()\n", RECIPE_STEP_2),
    ]:
        file = package / name
        text = file.read_text()
        assert text.count(anchor) == 1
        file.write_text(text.replace(anchor, anchor + lines))
    return folder


async def test_the_recipe_of_the_readme_works_as_printed(tmp_path: Path):
    folder = patched_package(tmp_path)
    async with Loopback(chat_stream(text="one"), chat_stream(text="two")) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ASK_MYPROVIDER, f"{server.url}/v1",
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"PYTHONPATH": str(folder), "MYPROVIDER_API_KEY": "from-env", "HOME": str(tmp_path)},
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        by_key, by_variable, error = json.loads(out)
        assert by_key == ["myprovider", "My Provider", "config", "one"]
        assert by_variable == ["myprovider", "My Provider", "MYPROVIDER_API_KEY", "two"]
        assert "My Provider" in error
        assert "providers.myprovider.apiBase" in error
        assert [request.json()["model"] for request in server.requests] == ["mymodel-7b"] * 2
        keys = [request.headers["authorization"] for request in server.requests]
        assert keys == ["Bearer from-config", "Bearer from-env"]
