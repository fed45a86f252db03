"""Every model provider as one row of data, and what is known about model families.

To add a provider, add a `ProviderSpec` to PROVIDERS and a field of the same name to
`ProvidersConfig` in `nanobot/config/schema.py`. Nothing else needs to change: key variables,
prefixes, matching and `nanobot status` follow from the row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nanobot.providers.base import ModelTraits

Wire = Literal["chat_completions", "anthropic_messages"]
TokenLimitField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True)
class ProviderSpec:
    """A provider: how it is named, recognised and reached, and how its wire differs from the rest."""

    name: str
    """The field in the `providers` section of the config."""
    keywords: tuple[str, ...]
    """A model whose name contains one of these belongs here (dash = underscore, any case)."""
    env_key: str
    """Environment variable that may hold the key."""
    display_name: str = ""
    litellm_prefix: str = ""
    """Model names may carry this prefix; it is stripped before the request. So is `name/`."""
    skip_prefixes: tuple[str, ...] = ()
    """More prefixes, with their slash, that name this provider and are stripped."""
    env_extras: tuple[tuple[str, str], ...] = ()
    """Further variables, read with the key: `("NAME", "{api_key}")` or `("NAME", "{api_base}")`."""
    model_overrides: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Request parameters fixed for models whose name contains the first item; None leaves one out."""
    is_gateway: bool = False
    """Can route models of other vendors."""
    detect_by_key_prefix: str = ""
    """A key that starts so belongs to this gateway, wherever it was written."""
    detect_by_base_keyword: str = ""
    """An apiBase that contains this is this gateway."""
    strip_model_prefix: bool = False
    """The gateway knows models by their bare name: every prefix is stripped."""
    names_have_slash: bool = False
    """Every model name here has a slash: `openrouter/auto` is a name, `openrouter/a/b` is `a/b`."""

    default_api_base: str = ""
    """Empty: the owner must set apiBase."""
    default_model: str = ""
    """Used instead of nanobot's own default model, which this provider does not serve."""
    wire: Wire = "chat_completions"
    needs_key: bool = True
    """False: an apiBase alone configures it, and it serves whatever model the owner put there."""
    oauth: bool = False
    """Used through a login instead of a key."""

    max_tokens_field: TokenLimitField = "max_tokens"
    cache_control: bool = False
    """Takes Anthropic cache marks for Claude models."""
    text_only_content: bool = False
    """Message content must be a string, never a list of parts."""
    merge_roles: bool = False
    """Refuses consecutive messages of one role."""
    plain_schema: bool = False
    """Accepts a small subset of JSON Schema in tool definitions."""
    tool_id_pattern: str = "[!-~]{1,40}"
    """Tool call ids that do not match are replaced by a short hash."""
    stream_usage: bool = True
    """Knows `stream_options`; otherwise it reports usage unasked, or not at all."""
    null_text_with_tool_calls: bool = False
    """Refuses an assistant message that carries both text and tool calls."""
    reasoning_details: bool = False
    """Wants the `reasoning_details` it sent back, unchanged."""
    thought_signatures: bool = False
    """Wants the `extra_content` of tool calls back."""

    @property
    def title(self) -> str:
        return self.display_name or self.name

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Every prefix that names this provider, with its slash."""
        own = (f"{self.name}/", f"{self.litellm_prefix}/" if self.litellm_prefix else "")
        return tuple(dict.fromkeys(_fold(prefix) for prefix in (*own, *self.skip_prefixes) if prefix))


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="custom",
        keywords=(),
        env_key="",
        display_name="Custom",
        needs_key=False,
    ),
    ProviderSpec(
        name="openrouter",
        keywords=("openrouter",),
        env_key="OPENROUTER_API_KEY",
        display_name="OpenRouter",
        litellm_prefix="openrouter",
        is_gateway=True,
        detect_by_key_prefix="sk-or-",
        detect_by_base_keyword="openrouter",
        names_have_slash=True,
        default_api_base="https://openrouter.ai/api/v1",
        cache_control=True,
        reasoning_details=True,
    ),
    ProviderSpec(
        name="aihubmix",
        keywords=("aihubmix",),
        env_key="AIHUBMIX_API_KEY",
        display_name="AiHubMix",
        is_gateway=True,
        detect_by_base_keyword="aihubmix",
        strip_model_prefix=True,
        default_api_base="https://aihubmix.com/v1",
    ),
    ProviderSpec(
        name="siliconflow",
        keywords=("siliconflow",),
        env_key="SILICONFLOW_API_KEY",
        display_name="SiliconFlow",
        is_gateway=True,
        detect_by_base_keyword="siliconflow",
        default_api_base="https://api.siliconflow.cn/v1",
        default_model="siliconflow/deepseek-ai/DeepSeek-V3.2",
    ),
    ProviderSpec(
        name="volcengine",
        keywords=("volcengine", "volces", "doubao"),
        env_key="ARK_API_KEY",
        display_name="VolcEngine",
        env_extras=(("VOLCENGINE_API_KEY", "{api_key}"),),
        is_gateway=True,
        detect_by_base_keyword="volces",
        default_api_base="https://ark.cn-beijing.volces.com/api/v3",
        default_model="volcengine/doubao-seed-1-6-251015",
        max_tokens_field="max_completion_tokens",
    ),
    ProviderSpec(
        name="anthropic",
        keywords=("anthropic", "claude"),
        env_key="ANTHROPIC_API_KEY",
        display_name="Anthropic",
        env_extras=(("ANTHROPIC_BASE_URL", "{api_base}"),),
        default_api_base="https://api.anthropic.com/v1",
        default_model="anthropic/claude-opus-4-5",
        wire="anthropic_messages",
        cache_control=True,
    ),
    ProviderSpec(
        name="openai",
        keywords=("openai", "gpt"),
        env_key="OPENAI_API_KEY",
        display_name="OpenAI",
        env_extras=(("OPENAI_BASE_URL", "{api_base}"),),
        default_api_base="https://api.openai.com/v1",
        default_model="openai/gpt-5.1",
        max_tokens_field="max_completion_tokens",
    ),
    ProviderSpec(
        name="openai_codex",
        keywords=("openai-codex",),
        env_key="",
        display_name="OpenAI Codex",
        oauth=True,
    ),
    ProviderSpec(
        name="github_copilot",
        keywords=("github-copilot",),
        env_key="",
        display_name="GitHub Copilot",
        oauth=True,
    ),
    ProviderSpec(
        name="deepseek",
        keywords=("deepseek",),
        env_key="DEEPSEEK_API_KEY",
        display_name="DeepSeek",
        default_api_base="https://api.deepseek.com/v1",
        default_model="deepseek/deepseek-chat",
        text_only_content=True,
    ),
    ProviderSpec(
        name="gemini",
        keywords=("gemini",),
        env_key="GEMINI_API_KEY",
        display_name="Gemini",
        default_api_base="https://generativelanguage.googleapis.com/v1beta/openai",
        default_model="gemini/gemini-2.5-flash",
        plain_schema=True,
        thought_signatures=True,
    ),
    ProviderSpec(
        name="zhipu",
        keywords=("zhipu", "glm", "zai"),
        env_key="ZAI_API_KEY",
        display_name="Zhipu AI",
        litellm_prefix="zai",
        env_extras=(("ZHIPUAI_API_KEY", "{api_key}"),),
        default_api_base="https://open.bigmodel.cn/api/paas/v4",
        default_model="zhipu/glm-4.6",
        merge_roles=True,
    ),
    ProviderSpec(
        name="dashscope",
        keywords=("qwen", "dashscope"),
        env_key="DASHSCOPE_API_KEY",
        display_name="DashScope",
        default_api_base="https://dashscope.aliyuncs.com/compatible-mode/v1",
        default_model="dashscope/qwen-plus",
    ),
    ProviderSpec(
        name="moonshot",
        keywords=("moonshot", "kimi"),
        env_key="MOONSHOT_API_KEY",
        display_name="Moonshot",
        env_extras=(("MOONSHOT_API_BASE", "{api_base}"),),
        default_api_base="https://api.moonshot.ai/v1",
        default_model="moonshot/kimi-k2.5",
    ),
    ProviderSpec(
        name="minimax",
        keywords=("minimax",),
        env_key="MINIMAX_API_KEY",
        display_name="MiniMax",
        default_api_base="https://api.minimax.io/v1",
        default_model="minimax/MiniMax-M2.1",
        merge_roles=True,
    ),
    ProviderSpec(
        name="vllm",
        keywords=("vllm",),
        env_key="HOSTED_VLLM_API_KEY",
        display_name="vLLM (local)",
        litellm_prefix="hosted_vllm",
        needs_key=False,
        default_api_base="http://127.0.0.1:8000/v1",
    ),
    ProviderSpec(
        name="groq",
        keywords=("groq",),
        env_key="GROQ_API_KEY",
        display_name="Groq",
        default_api_base="https://api.groq.com/openai/v1",
        default_model="groq/openai/gpt-oss-120b",
    ),
)


@dataclass(frozen=True)
class ModelFamily:
    """What is known about models whose bare name (after the last slash) starts with `start`."""

    start: str
    context_window: int = 128_000
    """Tokens."""
    images: bool = True
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Request parameters these models fix; None leaves one out."""
    max_tokens_field: TokenLimitField | None = None
    """Overrides the provider's."""
    replay_reasoning: bool = False
    """Wants its reasoning_content back with every assistant message of the turn, empty if there was none."""
    demands_signatures: bool = False
    """Refuses a tool call without thought signature, so one made by another model gets a placeholder."""


_NO_TEMPERATURE: Mapping[str, Any] = {"temperature": None}

# From the vendors' model pages. The first row that fits counts: special names stand before general ones.
MODEL_FAMILIES: tuple[ModelFamily, ...] = (
    ModelFamily("claude-3", 200_000),
    ModelFamily("claude-opus-4-7", 200_000, True, _NO_TEMPERATURE),
    ModelFamily("claude-opus-4.7", 200_000, True, _NO_TEMPERATURE),
    ModelFamily("claude-opus-4-8", 200_000, True, _NO_TEMPERATURE),
    ModelFamily("claude-opus-4.8", 200_000, True, _NO_TEMPERATURE),
    ModelFamily("claude-opus-4", 200_000),
    ModelFamily("claude-sonnet-4", 200_000),
    ModelFamily("claude-haiku-4", 200_000),
    ModelFamily("claude", 200_000, True, _NO_TEMPERATURE),
    ModelFamily("gpt-5", 400_000, True, _NO_TEMPERATURE, "max_completion_tokens"),
    ModelFamily("gpt-4.1", 1_047_576),
    ModelFamily("gpt-4o"),
    ModelFamily("gpt-4-turbo"),
    ModelFamily("gpt-4", 8_192, images=False),
    ModelFamily("gpt-3.5", 16_385, images=False),
    ModelFamily("gpt-oss", 131_072, images=False),
    ModelFamily("o1", 200_000, True, _NO_TEMPERATURE, "max_completion_tokens"),
    ModelFamily("o3", 200_000, True, _NO_TEMPERATURE, "max_completion_tokens"),
    ModelFamily("o4", 200_000, True, _NO_TEMPERATURE, "max_completion_tokens"),
    ModelFamily("deepseek", images=False, replay_reasoning=True),
    ModelFamily("gemini-1", 1_048_576),
    ModelFamily("gemini-2", 1_048_576),
    ModelFamily("gemini", 1_048_576, demands_signatures=True),
    ModelFamily("glm-4v", 16_000),
    ModelFamily("glm-4.5v", 65_536),
    ModelFamily("glm-4.6v"),
    ModelFamily("glm-4.6", 200_000, images=False),
    ModelFamily("glm-5", 200_000, images=False),
    ModelFamily("glm", images=False),
    ModelFamily("qwen-vl"),
    ModelFamily("qwen2.5-vl"),
    ModelFamily("qwen3-vl", 262_144),
    ModelFamily("qwen3-max", 262_144, images=False),
    ModelFamily("qwen3-coder", 262_144, images=False),
    ModelFamily("qwen", images=False),
    ModelFamily("kimi-k3", 262_144, True, _NO_TEMPERATURE, "max_completion_tokens", replay_reasoning=True),
    ModelFamily("kimi-k2.7", 262_144, True, {"temperature": 1.0}, replay_reasoning=True),
    ModelFamily("kimi-k2.5", 262_144, True, _NO_TEMPERATURE, replay_reasoning=True),
    ModelFamily("kimi-k2.6", 262_144, True, _NO_TEMPERATURE, replay_reasoning=True),
    ModelFamily("kimi-k2", 262_144, images=False, replay_reasoning=True),
    ModelFamily("minimax", 204_800, images=False),
    ModelFamily("doubao", 256_000),
    ModelFamily("llama-3.3", 131_072, images=False),
    ModelFamily("llama-3.1", 131_072, images=False),
    ModelFamily("llama3.1", 131_072, images=False),
    ModelFamily("smollm", 8_192, images=False),
)
_UNKNOWN_FAMILY = ModelFamily("")


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
    return next((family for family in MODEL_FAMILIES if bare.startswith(family.start)), _UNKNOWN_FAMILY)


def fixed_parameters(spec: ProviderSpec, model: str) -> dict[str, Any]:
    """Request parameters that `model` fixes at this provider; a value of None means: leave it out."""
    parameters = dict(family_of(model).parameters)
    for pattern, override in spec.model_overrides:
        if pattern.lower() in model.lower():
            parameters.update(override)
    return parameters


def max_tokens_field(spec: ProviderSpec, model: str) -> TokenLimitField:
    """The name of the parameter that limits the answer."""
    return family_of(model).max_tokens_field or spec.max_tokens_field


def traits_of(spec: ProviderSpec, model: str) -> ModelTraits:
    """What `model` can do, as far as is known; unknown models get the defaults of ModelTraits."""
    family = family_of(model)
    return ModelTraits(
        supports_images=family.images and not spec.text_only_content,
        context_window=family.context_window,
    )


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")
