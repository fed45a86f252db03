"""From a model name and the config to the provider that serves it, with an explanation of why.

The order: the provider the name's prefix or keyword points to, if the config has a key for it; the
first configured gateway; the first configured endpoint of the owner's own (custom, vllm); a key for
the wanted provider in the environment; any other configured provider; any other key in the
environment; a model server on this machine; the local tiny model. A prefix the owner wrote
(`deepseek/deepseek-chat`) is an order: the model goes to that provider or through a gateway or an own
endpoint, never to another vendor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nanobot.errors import NoProviderError
from nanobot.providers.base import Provider
from nanobot.providers.discovery import MODEL_SERVERS, ModelServer, find_model
from nanobot.providers.local import INSTALL_COMMAND, LOCAL_MODEL, LocalProvider, find_weights
from nanobot.providers.registry import (
    PROVIDERS,
    ProviderSpec,
    find_spec,
    spec_named_by_prefix,
    specs_by_keyword,
    traits_of,
    wire_model,
)

if TYPE_CHECKING:
    from nanobot.config.schema import Config, ProviderConfig

_LOCAL = ProviderSpec("local", (), "", "Local model", needs_key=False)
_SCRIPTED = ProviderSpec("scripted", (), "", "Script", needs_key=False)
_LOOPBACK = ProviderSpec("loopback", (), "", needs_key=False)
_SLOW_FIRST_BYTE = 600.0  # seconds: a server on this machine may have to load the model first


@dataclass(frozen=True)
class Resolution:
    """Who serves a model. `model` is the name for `ModelRequest.model`.

    `source` says where the key is from: "config", the name of a variable, or "" if there is none. `steps`
    explains the choice in plain words, one decision each. Keys and headers stay out of `repr`.
    """

    spec: ProviderSpec
    model: str
    api_key: str = field(default="", repr=False)
    api_base: str = ""
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    source: str = ""
    steps: tuple[str, ...] = ()

    @property
    def provider_name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class _Access:
    """A provider that could be asked: `entry` is its section in the config, `spec` what is behind it."""

    spec: ProviderSpec
    entry: str
    api_key: str = field(repr=False)
    api_base: str
    extra_headers: Mapping[str, str] = field(repr=False)
    source: str


@dataclass(frozen=True)
class _Wish:
    """The model asked for. `named` is the provider its prefix orders, `suited` those that would fit."""

    model: str
    is_default: bool
    named: ProviderSpec | None
    suited: tuple[str, ...]


async def resolve(
    config: Config,
    model: str,
    *,
    env: Mapping[str, str] = os.environ,
    probe: bool = True,
    servers: Sequence[ModelServer] = MODEL_SERVERS,
) -> Resolution:
    """Find who serves `model`. With `probe` off, no port of this machine is looked at.

    Raises NoProviderError saying what to do.
    """
    if model.startswith("scripted/"):
        return Resolution(_SCRIPTED, model, steps=("The model is a script.",))
    if model.startswith("local/"):
        return _local(model, "The model name asks for the local model.")
    wish = _wish(config, model)
    in_config, in_env = _accesses(config, env)
    if chosen := _choose(wish, in_config, in_env):
        return _resolution(wish, *chosen)
    if not in_config and not in_env:
        if probe and (found := await _on_this_machine(wish, servers)):
            return found
        if wish.named is None and find_weights() is not None:
            reason = "No key is set and no model server was found: the local tiny model answers instead of"
            return _local(LOCAL_MODEL, f"{reason} {model}.")
    raise _nothing_serves(wish, in_config)


def open_provider(resolution: Resolution, config: Config) -> Provider:
    """The provider of `resolution`, ready to stream; nothing is connected or loaded yet.

    `contextWindow` in the config replaces what is known about the model. Raises NoProviderError if
    the local model is not installed, UsageError if a script cannot be read.
    """
    if resolution.spec is _LOCAL:
        weights = find_weights()
        if weights is None:
            raise NoProviderError(f"The local model is not installed: run `make chat`, or {INSTALL_COMMAND}")
        return LocalProvider(weights)
    if resolution.spec is _SCRIPTED:
        from nanobot.providers.scripted import scripted_from_file

        return scripted_from_file(Path(resolution.model.removeprefix("scripted/")).expanduser())
    return _open_wire(resolution, config.agents.defaults.context_window)


def _open_wire(resolution: Resolution, context_window: int | None) -> Provider:
    from nanobot.providers.anthropic_messages import AnthropicMessagesProvider
    from nanobot.providers.chat_completions import ChatCompletionsProvider
    from nanobot.providers.transport import TransportSettings

    wires = {"anthropic_messages": AnthropicMessagesProvider, "chat_completions": ChatCompletionsProvider}
    traits = traits_of(resolution.spec, resolution.model)
    is_near = urlsplit(resolution.api_base).hostname in ("127.0.0.1", "localhost", "::1")
    return wires[resolution.spec.wire](
        resolution.spec,
        api_key=resolution.api_key,
        api_base=resolution.api_base,
        extra_headers=resolution.extra_headers,
        traits=replace(traits, context_window=context_window) if context_window else None,
        settings=TransportSettings(first_byte_timeout=_SLOW_FIRST_BYTE) if is_near else None,
    )


def _wish(config: Config, model: str) -> _Wish:
    """What the name asks for. Raises NoProviderError for providers this version cannot use."""
    if not model.strip():
        raise NoProviderError("No model is set: set agents.defaults.model, or run `nanobot onboard`.")
    prefix_spec = spec_named_by_prefix(model)
    if prefix_spec is not None and prefix_spec.oauth:
        raise NoProviderError(
            f"{prefix_spec.title} needs a login, which this version of nanobot does not have yet; "
            "choose another model with `nanobot onboard`."
        )
    if model.startswith("bedrock/"):
        raise NoProviderError(
            "Amazon Bedrock is not supported; use its models through OpenRouter, "
            "or an OpenAI-compatible endpoint as providers.custom."
        )
    is_default = model == type(config.agents.defaults).model_fields["model"].default
    named = None if is_default else prefix_spec
    if prefix_spec is not None:
        return _Wish(model, is_default, named, (prefix_spec.name,))
    return _Wish(model, is_default, named, tuple(spec.name for spec in specs_by_keyword(model)))


def _accesses(config: Config, env: Mapping[str, str]) -> tuple[list[_Access], list[_Access]]:
    """The providers configured (by key or, where none is needed, apiBase) and those with a key in `env` only.

    Both in registry order. An address from `env` goes with a key from `env`, never with one from the config.
    """
    in_config: list[_Access] = []
    in_env: list[_Access] = []
    for spec in PROVIDERS:
        entry: ProviderConfig | None = getattr(config.providers, spec.name, None)
        if entry is None or spec.oauth:
            continue
        key, source = entry.api_key.strip(), "config"
        base = (entry.api_base or "").strip()
        is_configured = bool(key or (base and not spec.needs_key))
        if not key:
            key, source = _first_set(env, _variables(spec, "{api_key}"))
            base = base or _first_set(env, _variables(spec, "{api_base}"))[0]
        if is_configured or key:
            behind = _gateway_behind(key, base) or spec
            base = base or behind.default_api_base
            access = _Access(behind, spec.name, key, base, entry.extra_headers or {}, source)
            (in_config if is_configured else in_env).append(access)
    return in_config, in_env


def _variables(spec: ProviderSpec, template: str) -> list[str]:
    own = [spec.env_key] if spec.env_key and template == "{api_key}" else []
    return own + [name for name, value in spec.env_extras if value == template]


def _first_set(env: Mapping[str, str], names: Sequence[str]) -> tuple[str, str]:
    """The first value that is not empty and the name of its variable, or two empty strings."""
    return next(((value, name) for name in names if (value := env.get(name, "").strip())), ("", ""))


def _gateway_behind(key: str, base: str) -> ProviderSpec | None:
    """The gateway an address belongs to, or without address a key, wherever it was written."""
    for spec in PROVIDERS:
        if base:
            if spec.detect_by_base_keyword and spec.detect_by_base_keyword in base.lower():
                return spec
        elif spec.detect_by_key_prefix and key.startswith(spec.detect_by_key_prefix):
            return spec
    return None


def _choose(
    wish: _Wish, in_config: Sequence[_Access], in_env: Sequence[_Access]
) -> tuple[_Access, str] | None:
    """The access to use and why; see the top of this file for the order."""
    reachable = [access for access in in_config if access.api_base]
    any_vendor = wish.named is None
    return (
        _first(in_config, lambda access: access.spec.name in wish.suited, "it is the model's own provider")
        or _first(in_config, lambda access: access.spec.is_gateway, "it is the first configured gateway")
        or _first(reachable, lambda access: not access.spec.needs_key, "it is an endpoint of your own")
        or _first(in_env, lambda access: access.spec.name in wish.suited, "it is the model's own provider")
        or _first(reachable, lambda _: any_vendor, "it is the first configured provider")
        or _first(in_env, lambda access: access.spec.is_gateway, "it is the first gateway with a key")
        or _first(in_env, lambda access: any_vendor and bool(access.api_base), "it has a key")
    )


def _first(
    accesses: Sequence[_Access], fits: Callable[[_Access], bool], reason: str
) -> tuple[_Access, str] | None:
    return next(((access, reason) for access in accesses if fits(access)), None)


def _resolution(wish: _Wish, access: _Access, reason: str) -> Resolution:
    spec = access.spec
    if not access.api_base:
        raise _no_address(access)
    steps = [f"{wish.model} goes to {spec.title}: {reason}."]
    if spec.name != access.entry:
        steps.append(f"The key or address under providers.{access.entry} belongs to {spec.title}.")
    model = wish.model
    if spec.name not in wish.suited:
        model, step = _model_elsewhere(wish, spec)
        steps.append(step)
    place = {"": "none is needed", "config": f"providers.{access.entry}.apiKey"}
    steps.append(f"Key: {place.get(access.source, f'environment variable {access.source}')}.")
    return Resolution(
        spec, model, access.api_key, access.api_base, access.extra_headers, access.source, tuple(steps)
    )


def _model_elsewhere(wish: _Wish, spec: ProviderSpec) -> tuple[str, str]:
    """The model to ask a provider for that is not the wanted one, and the explanation."""
    if wish.is_default and spec.default_model:
        return spec.default_model, (
            f"{spec.title} does not serve nanobot's default model: {spec.default_model} is used. "
            "Choose another with agents.defaults.model."
        )
    if spec.is_gateway:
        return wish.model, f"The gateway is asked for {wire_model(spec, wish.model)}."
    return wish.model, (
        f"{wish.model} is sent as it is; if {spec.title} does not know it, "
        "set agents.defaults.model to a model it serves."
    )


async def _on_this_machine(wish: _Wish, servers: Sequence[ModelServer]) -> Resolution | None:
    found = await find_model(wish.model, servers)
    if found is None or (wish.named is not None and not found.is_wanted):
        return None
    title = f"{found.server.title} on port {found.server.port}"
    if found.is_wanted:
        step = f"No key is set: {title} of this machine serves {found.model}."
    else:
        step = f"No key is set: {title} of this machine answers with {found.model} instead of {wish.model}."
    spec = replace(_LOOPBACK, display_name=found.server.title)
    return Resolution(spec, found.model, api_base=found.server.api_base, steps=(step,))


def _local(model: str, reason: str) -> Resolution:
    if model != LOCAL_MODEL:
        raise NoProviderError(f"There is no local model {model!r}; the one there is is {LOCAL_MODEL}.")
    return Resolution(_LOCAL, model, steps=(reason,))


def _nothing_serves(wish: _Wish, in_config: Sequence[_Access]) -> NoProviderError:
    if wish.named is not None:
        spec = wish.named
        missing = f"set {spec.env_key}" if spec.needs_key else f"set providers.{spec.name}.apiBase"
        return NoProviderError(
            f"{wish.model} asks for {spec.title}, which is not configured: run `nanobot onboard`, "
            f"{missing}, or name a model of a provider you have."
        )
    if in_config:
        return _no_address(in_config[0])
    suited = find_spec(wish.suited[0]) if wish.suited and not wish.is_default else None
    variable = suited.env_key if suited is not None else "OPENROUTER_API_KEY"
    return NoProviderError(
        f"Nothing can serve {wish.model}: run `nanobot onboard` to add a key, set {variable} "
        "in the environment, or start Ollama or run `make chat` for a model on this machine."
    )


def _no_address(access: _Access) -> NoProviderError:
    return NoProviderError(
        f"{access.spec.title} has a key but no address: set providers.{access.entry}.apiBase "
        "in config.json to the URL of its OpenAI-compatible API."
    )
