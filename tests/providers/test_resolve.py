from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanobot.config.schema import Config
from nanobot.errors import NoProviderError, UsageError
from nanobot.messages import Message
from nanobot.providers.base import Completion, ModelRequest
from nanobot.providers.discovery import ModelServer
from nanobot.providers.local import find_weights
from nanobot.providers.registry import LOCAL_MODEL
from nanobot.providers.resolve import Resolution, open_provider, resolve
from tests.providers.loopback import Loopback, chat_stream
from tests.providers.test_discovery import models, serving

DEFAULT_MODEL = "anthropic/claude-opus-4-5"


def configured(**providers: dict[str, Any]) -> Config:
    return Config.model_validate({"providers": providers})


def keyed(*names: str) -> Config:
    return configured(**{name: {"apiKey": f"key-of-{name}"} for name in names})


async def found(config: Config, model: str = DEFAULT_MODEL, **env: str) -> Resolution:
    return await resolve(config, model, env=env, probe=False)


@pytest.mark.parametrize(
    ("configured_names", "model", "provider"),
    [
        # README quick start
        (["openrouter"], DEFAULT_MODEL, "openrouter"),
        # a prefix with a key goes before everything
        (["openrouter", "anthropic"], DEFAULT_MODEL, "anthropic"),
        (["openrouter", "deepseek"], "deepseek/deepseek-chat", "deepseek"),
        (["groq", "openai"], "groq/openai/gpt-oss-120b", "groq"),
        (["openrouter", "anthropic"], "openrouter/anthropic/claude-opus-4-5", "openrouter"),
        (["zhipu", "openrouter"], "zai/glm-4.6", "zhipu"),
        # then keywords, in registry order
        (["openrouter", "openai"], "gpt-4o", "openai"),
        (["dashscope", "deepseek"], "deepseek-r1-distill-qwen-7b", "deepseek"),
        (["dashscope"], "deepseek-r1-distill-qwen-7b", "dashscope"),
        # then gateways, in registry order
        (["aihubmix", "openrouter", "anthropic"], "llama-4-scout", "openrouter"),
        (["openrouter"], "deepseek/deepseek-chat", "openrouter"),
        # then the first provider
        (["groq", "gemini"], "llama-4-scout", "gemini"),
    ],
)
async def test_the_order(configured_names: list[str], model: str, provider: str):
    resolution = await found(keyed(*configured_names), model)
    assert resolution.provider_name == provider
    assert resolution.model == model
    assert resolution.api_key == f"key-of-{provider}"
    assert resolution.source == "config"
    assert resolution.steps


@pytest.mark.parametrize("name", ["openai", "deepseek", "gemini", "groq", "siliconflow", "volcengine"])
async def test_the_untouched_default_model_becomes_one_that_the_provider_serves(name: str):
    resolution = await found(keyed(name))
    assert resolution.provider_name == name
    assert resolution.model == resolution.spec.default_model
    assert any("default model" in step for step in resolution.steps)


async def test_a_chosen_model_is_sent_as_it_is_and_explained():
    resolution = await found(keyed("groq"), "gpt-4o")
    assert (resolution.provider_name, resolution.model) == ("groq", "gpt-4o")
    assert any("sent as it is" in step for step in resolution.steps)


@pytest.mark.parametrize("model", ["deepseek/deepseek-chat", "openrouter/auto", "openai/gpt-4o"])
async def test_a_named_provider_is_never_replaced_by_another_vendor(model: str):
    with pytest.raises(NoProviderError, match="not configured") as raised:
        await found(keyed("anthropic", "groq"), model, GEMINI_API_KEY="g")
    assert model in str(raised.value)


async def test_an_own_endpoint_takes_any_name():
    config = configured(vllm={"apiBase": "http://localhost:8000/v1"}, groq={"apiKey": "g"})
    for model in ("meta-llama/Llama-3.1-8B-Instruct", "openai/gpt-oss-20b", "vllm/openai/gpt-oss-20b"):
        resolution = await found(config, model)
        assert (resolution.provider_name, resolution.model) == ("vllm", model)
        assert (resolution.api_key, resolution.source) == ("", "")


async def test_an_own_endpoint_may_have_its_key_in_the_environment():
    config = configured(vllm={"apiBase": "http://localhost:8000/v1"})
    resolution = await found(config, "my-model", HOSTED_VLLM_API_KEY="v", OPENROUTER_API_KEY="o")
    assert (resolution.provider_name, resolution.api_key) == ("vllm", "v")
    assert resolution.source == "HOSTED_VLLM_API_KEY"


async def test_a_key_without_an_address():
    with pytest.raises(NoProviderError, match=r"providers\.custom\.apiBase"):
        await found(keyed("custom"), "my-model")
    assert (await found(keyed("custom", "groq"), "my-model")).provider_name == "groq"
    with pytest.raises(NoProviderError, match=r"providers\.custom\.apiBase"):
        await found(keyed("custom", "groq"), "custom/my-model")
    with pytest.raises(NoProviderError, match=r"set providers\.vllm\.apiBase"):
        await found(keyed("groq"), "vllm/my-model")


@pytest.mark.parametrize(
    ("section", "provider", "base"),
    [
        ({"apiKey": "sk-or-v1-xxx"}, "openrouter", "https://openrouter.ai/api/v1"),
        ({"apiKey": "k", "apiBase": "https://openrouter.ai/api/v1/"}, "openrouter", "https://openrouter.ai/api/v1/"),
        ({"apiKey": "k", "apiBase": "https://api.siliconflow.cn/v1"}, "siliconflow", "https://api.siliconflow.cn/v1"),
        ({"apiKey": "sk-or-v1-xxx", "apiBase": "https://my.proxy/v1"}, "custom", "https://my.proxy/v1"),
    ],
)  # fmt: skip
async def test_a_gateway_is_known_by_key_or_address(section: dict[str, str], provider: str, base: str):
    resolution = await found(configured(custom=section), "some/model")
    assert (resolution.provider_name, resolution.api_base) == (provider, base)


async def test_an_openrouter_key_under_a_vendor_is_used_as_what_it_is():
    resolution = await found(configured(anthropic={"apiKey": "sk-or-v1-xxx"}))
    assert (resolution.provider_name, resolution.model) == ("openrouter", DEFAULT_MODEL)
    assert any("providers.anthropic" in step for step in resolution.steps)


async def test_the_environment():
    nothing = Config()
    by_prefix = await found(nothing, "deepseek/deepseek-chat", DEEPSEEK_API_KEY="d", OPENROUTER_API_KEY="o")
    assert (by_prefix.provider_name, by_prefix.api_key) == ("deepseek", "d")
    assert by_prefix.source == "DEEPSEEK_API_KEY"
    by_keyword = await found(nothing, "gpt-4o", OPENAI_API_KEY="a", OPENROUTER_API_KEY="o")
    assert by_keyword.provider_name == "openai"
    gateway = await found(nothing, "llama-4-scout", GROQ_API_KEY="g", OPENROUTER_API_KEY="o")
    assert gateway.provider_name == "openrouter"
    anything = await found(nothing, OPENAI_API_KEY="a")
    assert (anything.provider_name, anything.model) == ("openai", "openai/gpt-5.1")
    extra_name = await found(nothing, "glm-4.6", ZHIPUAI_API_KEY="z")
    assert (extra_name.provider_name, extra_name.source) == ("zhipu", "ZHIPUAI_API_KEY")


async def test_the_config_goes_before_the_environment():
    resolution = await found(keyed("openrouter"), ANTHROPIC_API_KEY="a")
    assert resolution.provider_name == "openrouter"
    same = await found(keyed("anthropic"), ANTHROPIC_API_KEY="a")
    assert same.api_key == "key-of-anthropic"


async def test_a_fitting_key_in_the_environment_beats_a_configured_vendor_that_cannot_serve_the_model():
    resolution = await found(keyed("groq"), ANTHROPIC_API_KEY="a")
    assert (resolution.provider_name, resolution.source) == ("anthropic", "ANTHROPIC_API_KEY")


async def test_address_and_headers_come_along():
    headers = {"X-Team": "a"}
    config = configured(openai={"apiBase": "https://proxy.example/v1", "extraHeaders": headers})
    resolution = await found(config, "gpt-4o", OPENAI_API_KEY="a", OPENAI_BASE_URL="https://env.example/v1")
    assert (resolution.api_base, resolution.extra_headers) == ("https://proxy.example/v1", headers)
    from_env = await found(Config(), "gpt-4o", OPENAI_API_KEY="a", OPENAI_BASE_URL="https://env.example/v1")
    assert from_env.api_base == "https://env.example/v1"
    plain = await found(keyed("openai"), "gpt-4o", OPENAI_BASE_URL="https://env.example/v1")
    assert plain.api_base == "https://api.openai.com/v1"


async def test_secrets_stay_out_of_repr_and_steps():
    config = configured(openrouter={"apiKey": "sk-or-secret", "extraHeaders": {"X-Auth": "header-secret"}})
    resolution = await found(config)
    assert "secret" not in repr(resolution) + " ".join(resolution.steps)


@pytest.mark.parametrize("model", ["openai-codex/gpt-5.1-codex", "github_copilot/gpt-5"])
async def test_logins_are_not_there_yet(model: str):
    with pytest.raises(NoProviderError, match="needs a login"):
        await found(keyed("openrouter", "openai"), model)


async def test_other_names_that_cannot_work():
    for model, reason in [
        ("bedrock/anthropic.claude", "Bedrock"),
        (" ", "There is no model"),
        ("local/x", "local/smol"),
    ]:
        with pytest.raises(NoProviderError, match=reason):
            await found(keyed("openrouter"), model)


async def test_a_server_on_this_machine():
    async with serving(models("llama3.2:latest"), title="Ollama") as server:
        default = await resolve(Config(), DEFAULT_MODEL, env={}, servers=[server])
        assert default.model == "llama3.2:latest"
        assert default.api_base == f"http://127.0.0.1:{server.port}/v1"
        assert "Ollama" in default.steps[0]
        assert "instead of" in default.steps[0]
        wanted = await resolve(Config(), "llama3.2", env={}, servers=[server])
        assert "instead of" not in wanted.steps[0]
        with pytest.raises(NoProviderError):
            await resolve(Config(), "deepseek/deepseek-chat", env={}, servers=[server])
        somewhere_else = await resolve(keyed("groq"), "llama3.2", env={}, servers=[server])
        assert somewhere_else.provider_name == "groq"


async def test_without_anything_the_local_model_answers_unless_another_was_ordered():
    assert find_weights() is not None, "the development environment has the local model"
    assert (await found(Config())).model == LOCAL_MODEL
    with pytest.raises(NoProviderError, match="DEEPSEEK_API_KEY"):
        await found(Config(), "deepseek/deepseek-chat")
    assert (await found(keyed("openrouter"), LOCAL_MODEL)).provider_name == "local"


async def test_a_dead_port_is_no_server():
    async with serving(models("llama")) as server:
        dead = ModelServer("Ollama", server.port)
    assert (await resolve(Config(), DEFAULT_MODEL, env={}, servers=[dead])).provider_name == "local"


async def test_open_provider_talks_to_what_was_resolved():
    async with Loopback(chat_stream(text="hello")) as server:
        config = configured(custom={"apiBase": f"{server.url}/v1", "extraHeaders": {"X-Team": "a"}})
        config.agents.defaults.context_window = 4242
        resolution = await found(config, "my-model")
        provider = open_provider(resolution, config)
        assert provider.traits("my-model").context_window == 4242
        request = ModelRequest(resolution.model, "", [Message.user("hi")], [], 10)
        last = [event async for event in provider.stream(request)][-1]
        await provider.aclose()
        assert isinstance(last, Completion)
        assert last.message.text == "hello"
        assert server.requests[0].headers["x-team"] == "a"
        assert "authorization" not in server.requests[0].headers


async def test_open_provider_by_wire():
    anthropic = open_provider(await found(keyed("anthropic")), keyed("anthropic"))
    assert type(anthropic).__name__ == "AnthropicMessagesProvider"
    await anthropic.aclose()


async def test_scripts(tmp_path: Path):
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"replies": [{"text": "from the script"}]}))
    resolution = await found(keyed("openrouter"), f"scripted/{path}")
    provider = open_provider(resolution, Config())
    request = ModelRequest(resolution.model, "", [Message.user("hi")], [], 10)
    last = [event async for event in provider.stream(request)][-1]
    assert isinstance(last, Completion)
    assert last.message.text == "from the script"
    with pytest.raises(UsageError, match="none"):
        open_provider(await found(Config(), f"scripted/{tmp_path}/none.json"), Config())
