"""Every model provider as one row of data, and what is known about model families.

To add a provider, add a `ProviderSpec` to PROVIDERS and a field of the same name to
`ProvidersConfig` in `nanobot/config/schema.py`. Nothing else needs to change: key variables,
prefixes, matching and `nanobot status` follow from the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nanobot.providers.base import ModelRequest, ModelTraits

TokenLimitField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True)
class ProviderSpec:
    """A provider: how it is named, recognised and reached, and how its wire differs from the rest."""

    name: str  # the field in the `providers` section of the config
    keywords: tuple[str, ...]  # a model whose name contains one belongs here (dash = underscore, any case)
    env_key: str  # environment variable that may hold the key
    display_name: str = ""
    default_api_base: str = ""  # empty: the owner must set apiBase
    default_model: str = ""  # instead of nanobot's own default model, which this provider does not serve
    litellm_prefix: str = ""  # model names may carry it; it is stripped before the request. So is `name/`
    skip_prefixes: tuple[str, ...] = ()  # more prefixes, with their slash, that name this provider
    env_extras: tuple[tuple[str, str], ...] = ()  # ("NAME", "{api_key}") or ("NAME", "{api_base}"): also read
    model_overrides: tuple[
        tuple[str, Mapping[str, Any]], ...
    ] = ()  # (part of a name, parameters; None: omit)
    is_gateway: bool = False  # can route models of other vendors
    detect_by_key_prefix: str = ""  # a key that starts so belongs to this gateway, wherever it was written
    detect_by_base_keyword: str = ""  # an apiBase that contains this is this gateway
    strip_model_prefix: bool = False  # the gateway knows models by their bare name
    names_have_slash: bool = False  # `openrouter/auto` is a name, `openrouter/a/b` is `a/b`
    wire: Literal["chat_completions", "anthropic_messages"] = "chat_completions"
    needs_key: bool = True  # False: an apiBase alone configures it, and it serves what the owner put there
    oauth: bool = False  # used through a login instead of a key
    max_tokens_field: TokenLimitField = "max_tokens"
    cache_control: bool = False  # takes Anthropic cache marks for Claude models
    plain_schema: bool = False  # accepts a small subset of JSON Schema in tool definitions
    tool_id_pattern: str = "[!-~]{1,40}"  # tool call ids that do not match are replaced by a short hash
    reasoning_details: bool = False  # wants the `reasoning_details` it sent back, unchanged
    thought_signatures: bool = False  # wants the `extra_content` of tool calls back

    @property
    def title(self) -> str:
        return self.display_name or self.name

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Every prefix that names this provider, with its slash."""
        own = (f"{self.name}/", f"{self.litellm_prefix}/" if self.litellm_prefix else "")
        return tuple(dict.fromkeys(_fold(prefix) for prefix in (*own, *self.skip_prefixes) if prefix))


# A table: name, keywords, key variable, title; base URL and default model; what is different about it.
# fmt: off
PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec("custom", (), "", "Custom", needs_key=False),
    ProviderSpec("openrouter", ("openrouter",), "OPENROUTER_API_KEY", "OpenRouter",
                 "https://openrouter.ai/api/v1",
                 is_gateway=True, detect_by_key_prefix="sk-or-", detect_by_base_keyword="openrouter",
                 names_have_slash=True, cache_control=True, reasoning_details=True),
    ProviderSpec("aihubmix", ("aihubmix",), "AIHUBMIX_API_KEY", "AiHubMix",
                 "https://aihubmix.com/v1",
                 is_gateway=True, detect_by_base_keyword="aihubmix", strip_model_prefix=True),
    ProviderSpec("siliconflow", ("siliconflow",), "SILICONFLOW_API_KEY", "SiliconFlow",
                 "https://api.siliconflow.cn/v1", "siliconflow/deepseek-ai/DeepSeek-V3.2",
                 is_gateway=True, detect_by_base_keyword="siliconflow"),
    ProviderSpec("volcengine", ("volcengine", "volces", "doubao"), "ARK_API_KEY", "VolcEngine",
                 "https://ark.cn-beijing.volces.com/api/v3", "volcengine/doubao-seed-1-6-251015",
                 env_extras=(("VOLCENGINE_API_KEY", "{api_key}"),),
                 is_gateway=True, detect_by_base_keyword="volces", max_tokens_field="max_completion_tokens"),
    ProviderSpec("anthropic", ("anthropic", "claude"), "ANTHROPIC_API_KEY", "Anthropic",
                 "https://api.anthropic.com/v1", "anthropic/claude-opus-4-5",
                 env_extras=(("ANTHROPIC_BASE_URL", "{api_base}"),),
                 wire="anthropic_messages", cache_control=True),
    ProviderSpec("openai", ("openai", "gpt"), "OPENAI_API_KEY", "OpenAI",
                 "https://api.openai.com/v1", "openai/gpt-5.1",
                 env_extras=(("OPENAI_BASE_URL", "{api_base}"),), max_tokens_field="max_completion_tokens"),
    ProviderSpec("openai_codex", ("openai-codex",), "", "OpenAI Codex", oauth=True),
    ProviderSpec("github_copilot", ("github-copilot",), "", "GitHub Copilot", oauth=True),
    ProviderSpec("deepseek", ("deepseek",), "DEEPSEEK_API_KEY", "DeepSeek",
                 "https://api.deepseek.com/v1", "deepseek/deepseek-chat"),
    ProviderSpec("gemini", ("gemini",), "GEMINI_API_KEY", "Gemini",
                 "https://generativelanguage.googleapis.com/v1beta/openai", "gemini/gemini-2.5-flash",
                 plain_schema=True, thought_signatures=True),
    ProviderSpec("zhipu", ("zhipu", "glm", "zai"), "ZAI_API_KEY", "Zhipu AI",
                 "https://open.bigmodel.cn/api/paas/v4", "zhipu/glm-4.6", "zai",
                 env_extras=(("ZHIPUAI_API_KEY", "{api_key}"),)),
    ProviderSpec("dashscope", ("qwen", "dashscope"), "DASHSCOPE_API_KEY", "DashScope",
                 "https://dashscope.aliyuncs.com/compatible-mode/v1", "dashscope/qwen-plus"),
    ProviderSpec("moonshot", ("moonshot", "kimi"), "MOONSHOT_API_KEY", "Moonshot",
                 "https://api.moonshot.ai/v1", "moonshot/kimi-k2.5",
                 env_extras=(("MOONSHOT_API_BASE", "{api_base}"),)),
    ProviderSpec("minimax", ("minimax",), "MINIMAX_API_KEY", "MiniMax",
                 "https://api.minimax.io/v1", "minimax/MiniMax-M2.1"),
    ProviderSpec("vllm", ("vllm",), "HOSTED_VLLM_API_KEY", "vLLM (local)",
                 "http://127.0.0.1:8000/v1", litellm_prefix="hosted_vllm", needs_key=False),
    ProviderSpec("groq", ("groq",), "GROQ_API_KEY", "Groq",
                 "https://api.groq.com/openai/v1", "groq/openai/gpt-oss-120b"),
)
# fmt: on

LOCAL_MODEL = "local/smollm2-135m"
LOCAL = ProviderSpec("local", (), "", "Local model", needs_key=False)


@dataclass(frozen=True)
class ModelFamily:
    """What is known about models whose bare name (after the last slash) starts with one of `starts`."""

    starts: tuple[str, ...]
    context_window: int = 128_000  # tokens
    images: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)  # fixed by these models; None: leave out
    max_tokens_field: TokenLimitField | None = None  # overrides the provider's
    replay_reasoning: bool = False  # wants reasoning_content with every assistant message, even if empty
    demands_signatures: bool = False  # a tool call of another model gets a placeholder for its signature


_NO_TEMPERATURE: Mapping[str, Any] = {"temperature": None}  # these models take no temperature

# From the vendors' model pages. The first row that fits counts: special names stand before general ones.
MODEL_FAMILIES: tuple[ModelFamily, ...] = (
    ModelFamily(
        ("claude-opus-4-7", "claude-opus-4.7", "claude-opus-4-8", "claude-opus-4.8"),
        200_000,
        True,
        _NO_TEMPERATURE,
    ),
    ModelFamily(("claude-3", "claude-opus-4", "claude-sonnet-4", "claude-haiku-4"), 200_000),
    ModelFamily(("claude",), 200_000, True, _NO_TEMPERATURE),
    ModelFamily(("gpt-5",), 400_000, True, _NO_TEMPERATURE, "max_completion_tokens"),
    ModelFamily(("gpt-4.1",), 1_047_576),
    ModelFamily(("gpt-4o", "gpt-4-turbo", "qwen-vl", "qwen2.5-vl", "glm-4.6v")),
    ModelFamily(("gpt-4", "smollm"), 8_192, images=False),
    ModelFamily(("gpt-3.5",), 16_385, images=False),
    ModelFamily(("gpt-oss", "llama-3.1", "llama3.1", "llama-3.3"), 131_072, images=False),
    ModelFamily(("o1", "o3", "o4"), 200_000, True, _NO_TEMPERATURE, "max_completion_tokens"),
    ModelFamily(("deepseek",), images=False, replay_reasoning=True),
    ModelFamily(("gemini-1", "gemini-2"), 1_048_576),
    ModelFamily(("gemini",), 1_048_576, demands_signatures=True),
    ModelFamily(("glm-4v",), 16_000),
    ModelFamily(("glm-4.5v",), 65_536),
    ModelFamily(("glm-4.6", "glm-5"), 200_000, images=False),
    ModelFamily(("qwen3-vl",), 262_144),
    ModelFamily(("qwen3-max", "qwen3-coder"), 262_144, images=False),
    ModelFamily(("glm", "qwen"), images=False),
    ModelFamily(("kimi-k3",), 262_144, True, _NO_TEMPERATURE, "max_completion_tokens", replay_reasoning=True),
    ModelFamily(("kimi-k2.7",), 262_144, True, {"temperature": 1.0}, replay_reasoning=True),
    ModelFamily(("kimi-k2.5", "kimi-k2.6"), 262_144, True, _NO_TEMPERATURE, replay_reasoning=True),
    ModelFamily(("kimi-k2",), 262_144, images=False, replay_reasoning=True),
    ModelFamily(("minimax",), 204_800, images=False),
    ModelFamily(("doubao",), 256_000),
)


def find_spec(name: str) -> ProviderSpec | None:
    """The row called `name`; dash and underscore are the same."""
    wanted = _fold(name)
    return next((spec for spec in PROVIDERS if spec.name == wanted), None)


def spec_named_by_prefix(model: str) -> ProviderSpec | None:
    """The provider that `model` names before its first slash, if it is one of ours."""
    folded = _fold(model)
    return next((spec for spec in PROVIDERS if folded.startswith(spec.prefixes)), None)


def specs_by_keyword(model: str) -> list[ProviderSpec]:
    """The providers one of whose keywords is in `model`, in registry order."""
    folded = _fold(model)
    return [spec for spec in PROVIDERS if any(_fold(word) in folded for word in spec.keywords)]


def wire_model(spec: ProviderSpec, model: str) -> str:
    """The name to send: `model` without the prefixes of `spec` (`groq/openai/x` -> `openai/x`)."""
    if spec.strip_model_prefix:
        return model.rpartition("/")[2]
    for prefix in spec.prefixes:
        if _fold(model).startswith(prefix):
            rest = model[len(prefix) :]
            return model if spec.names_have_slash and "/" not in rest else rest
    return model


def family_of(model: str) -> ModelFamily:
    """What is known about `model`, whichever provider serves it."""
    bare = model.rpartition("/")[2].lower()
    return next((family for family in MODEL_FAMILIES if bare.startswith(family.starts)), ModelFamily(()))


def request_parameters(spec: ProviderSpec, request: ModelRequest) -> dict[str, Any]:
    """What every request body begins with: model, limits, and what the model fixes at this provider."""
    family = family_of(request.model)
    parameters: dict[str, Any] = {
        "model": wire_model(spec, request.model),
        "stream": True,
        family.max_tokens_field or spec.max_tokens_field: request.max_tokens,
        "temperature": request.temperature,
        **family.parameters,
    }
    for pattern, override in spec.model_overrides:
        if pattern.lower() in request.model.lower():
            parameters.update(override)
    return {name: value for name, value in parameters.items() if value is not None}


def traits_of(model: str) -> ModelTraits:
    """What `model` can do, as far as is known; unknown models get the defaults of ModelTraits."""
    family = family_of(model)
    return ModelTraits(supports_images=family.images, context_window=family.context_window)


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")
