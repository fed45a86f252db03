"""`nanobot onboard`: provider, key, check, first reply. Nothing is written before it was answered."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nanobot import paths
from nanobot.cli.questions import ask, ask_hidden, ask_yes, choose
from nanobot.cli.screen import clean, complain
from nanobot.config.loader import load_config, update_config_file, write_default_config
from nanobot.config.schema import Config, ProviderConfig
from nanobot.errors import ProviderError, UsageError
from nanobot.providers.registry import PROVIDERS, ProviderSpec, find_spec, spec_named_by_prefix
from nanobot.workspace import create_workspace

if TYPE_CHECKING:
    from nanobot.providers.discovery import FoundModel

_LOCAL = "local"
_FIRST_WORDS = "Hello! In one or two sentences: who are you, and what can you do for me?"


@dataclass(frozen=True, slots=True)
class OnboardOptions:
    """The options of `nanobot onboard`. An `api_key` of `-` is read from standard input."""

    provider: str
    api_key: str
    api_key_env: str
    api_base: str
    model: str
    skip_check: bool
    non_interactive: bool

    @property
    def names_something(self) -> bool:
        return bool(self.provider or self.api_key or self.api_key_env or self.api_base or self.model)


@dataclass
class Plan:
    """What will be written. `provider` is a name of the registry, or `local`."""

    provider: str
    model: str
    changes: dict[str, object] = field(default_factory=dict)

    def set_key(self, key: str) -> None:
        self.changes[f"providers.{self.provider}.apiKey"] = key

    def set_base(self, base: str) -> None:
        self.changes[f"providers.{self.provider}.apiBase"] = base

    def applied_to(self, config: Config) -> Config:
        """A copy of `config` as it will be."""
        changed = config.model_copy(deep=True)
        changed.agents.defaults.model = self.model
        section = getattr(changed.providers, self.provider, None)
        section_changes = (
            ("api_key", f"providers.{self.provider}.apiKey"),
            ("api_base", f"providers.{self.provider}.apiBase"),
        )
        for attribute, path in section_changes:
            if path in self.changes:
                setattr(section, attribute, self.changes[path])
        return changed


def run_onboard(options: OnboardOptions) -> int:
    """Set nanobot up; returns the exit code. Raises NanobotError; the file is as it was then."""
    config = load_config().config
    if options.non_interactive or not sys.stdin.isatty():
        return _set_up(config, options)
    try:
        return _ask_everything(config, options)
    except (KeyboardInterrupt, EOFError):
        print("\nNothing was changed.")
        return 130


# -- without questions


def _set_up(config: Config, options: OnboardOptions) -> int:
    if options.names_something:
        plan = _plan_from(options, config)
        if not options.skip_check:
            _try(plan, config)
        _write(plan, config)
    else:
        write_default_config(paths.config_file())
        create_workspace(config.workspace_path)
    print(f"Configuration: {paths.config_file()}")
    print(f"Workspace:     {config.workspace_path}")
    print("Next: `nanobot status` shows what is configured, `nanobot agent` begins a conversation.")
    if not options.names_something:
        print("To choose a model: nanobot onboard --non-interactive --provider NAME --api-key-env VARIABLE")
    return 0


def _plan_from(options: OnboardOptions, config: Config) -> Plan:
    """Raises UsageError when the options do not say enough."""
    name = options.provider.replace("-", "_").lower()
    if not name:
        named = spec_named_by_prefix(options.model or config.agents.defaults.model)
        if named is None:
            raise UsageError(f"Name the provider with --provider: {_provider_names()}.")
        name = named.name
    if name == _LOCAL:
        return Plan(_LOCAL, options.model or _local_model())
    spec = find_spec(name)
    if spec is None or spec.oauth:
        raise UsageError(f"There is no provider {options.provider!r}. Use one of: {_provider_names()}.")
    plan = Plan(spec.name, options.model or _default_model(spec, config))
    key = _key_from(options)
    if key:
        plan.set_key(key)
    elif spec.needs_key and not _known_key(spec, config):
        raise UsageError(
            f"{spec.title} needs a key. Give --api-key-env VARIABLE, or --api-key - and the key on stdin."
        )
    if options.api_base:
        plan.set_base(options.api_base)
    elif not spec.default_api_base and not _section(config, spec.name).api_base:
        raise UsageError(f"{spec.title} needs --api-base, the address its API begins with.")
    return plan


def _key_from(options: OnboardOptions) -> str:
    if options.api_key_env:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key:
            raise UsageError(f"The environment variable {options.api_key_env} is empty or not set.")
        return key
    if options.api_key == "-":
        return sys.stdin.readline().strip()
    if options.api_key:
        complain(
            "Warning: a key among the arguments can be seen by every user of this machine and stays in the "
            "shell history. --api-key-env VARIABLE or --api-key - avoid that."
        )
    return options.api_key


# -- with questions


def _ask_everything(config: Config, options: OnboardOptions) -> int:
    print(
        f"This sets up nanobot in {paths.home()}. Enter keeps what is in brackets, Ctrl-C changes nothing.\n"
    )
    while True:
        plan = _ask_plan(config)
        works = not options.skip_check and _answers(plan, config)
        if works or options.skip_check or ask_yes("Keep these settings all the same?", default=False):
            break
        print()
    _write(plan, config)
    print(f"\nConfiguration: {paths.config_file()}\nWorkspace:     {config.workspace_path}\n")
    return _first_reply() if works else 0


def _answers(plan: Plan, config: Config) -> bool:
    print(f"\nAsking {clean(plan.model)} for a word …", flush=True)
    try:
        _try(plan, config)
    except ProviderError as error:
        complain(f"Error: {error}")
        return False
    print("It answers.")
    return True


def _ask_plan(config: Config) -> Plan:
    found = _found_server()
    specs = [spec for spec in PROVIDERS if not spec.oauth]
    titles = [_title(spec, config) for spec in specs]
    titles.append("Local tiny model (offline, no key, chats only)")
    if found:
        titles.append(f"{found.server.title} on this machine ({found.model})")
    choice = choose("Provider", titles, _current(specs, config))
    if choice == len(specs):
        return Plan(_LOCAL, _local_model())
    if found and choice > len(specs):
        return _plan_for_server(found, config)
    return _ask_provider(specs[choice], config)


def _ask_provider(spec: ProviderSpec, config: Config) -> Plan:
    plan = Plan(spec.name, "")
    section = _section(config, spec.name)
    if not spec.default_api_base or not spec.needs_key:
        base = ask("Base URL", section.api_base or spec.default_api_base)
        if base and base != section.api_base:
            plan.set_base(base)
    known = _known_key(spec, config)
    optional = "" if spec.needs_key else ", Enter for none"
    key = ask_hidden(f"API key ({'Enter keeps ' + known if known else 'hidden' + optional})")
    while not key and not known and spec.needs_key:
        key = ask_hidden("A key is needed (Ctrl-C leaves)")
    if key:
        plan.set_key(key)
    plan.model = ask("Model", _default_model(spec, config))
    while not plan.model:
        plan.model = ask("A model name is needed (Ctrl-C leaves)")
    return plan


def _plan_for_server(found: FoundModel, config: Config) -> Plan:
    """A server on loopback is reached as `custom`, or as `vllm` if it is one."""
    name = "vllm" if found.server.title == "vLLM" else "custom"
    current = _section(config, name).api_base
    if current and current != found.server.api_base:
        print(f"The provider `{name}` points to {clean(current)} now and will point to this server.")
    plan = Plan(name, f"{name}/{found.model}")
    plan.set_base(found.server.api_base)
    return plan


# -- shared


def _try(plan: Plan, config: Config) -> None:
    """Have the model say a word, and pin the provider if another one would answer to its name."""
    from nanobot.cli.model_check import check_model
    from nanobot.providers.resolve import resolve

    candidate = plan.applied_to(config)

    async def attempt() -> None:
        resolution = await resolve(candidate, plan.model)
        if resolution.provider_name != plan.provider and plan.provider != _LOCAL:
            plan.model = f"{plan.provider}/{plan.model}"
        await check_model(candidate, plan.model)

    asyncio.run(attempt())


def _write(plan: Plan, config: Config) -> None:
    is_new = write_default_config(paths.config_file())
    changes = dict(plan.changes)
    if is_new or plan.model != config.agents.defaults.model:
        changes["agents.defaults.model"] = plan.model
    if changes:
        update_config_file(paths.config_file(), changes)
    create_workspace(config.workspace_path)


def _first_reply() -> int:
    from nanobot.cli.agent import AgentOptions, run_agent

    print("The first reply:\n", flush=True)
    code = run_agent(AgentOptions(message=_FIRST_WORDS))
    print("\n`nanobot agent` goes on with this conversation, `nanobot status` shows what is configured.")
    return code


def _title(spec: ProviderSpec, config: Config) -> str:
    known = _known_key(spec, config)
    return f"{spec.title} (key: {known})" if known else spec.title


def _known_key(spec: ProviderSpec, config: Config) -> str:
    """Where a key for the provider already is, in words; empty if there is none."""
    if _section(config, spec.name).api_key:
        return "the current one"
    return f"${spec.env_key}" if spec.env_key and os.environ.get(spec.env_key) else ""


def _section(config: Config, provider: str) -> ProviderConfig:
    section: ProviderConfig = getattr(config.providers, provider)
    return section


def _current(specs: Sequence[ProviderSpec], config: Config) -> int:
    """The provider in use, as far as the configuration alone tells; else the first."""
    model = config.agents.defaults.model
    if model.startswith(f"{_LOCAL}/"):
        return len(specs)
    keyed = [place for place, spec in enumerate(specs) if _known_key(spec, config)]
    named = spec_named_by_prefix(model)
    chosen = next((place for place in keyed if specs[place] is named), None)
    if chosen is not None:
        return chosen
    recommended = next(place for place, spec in enumerate(specs) if spec.is_gateway)
    return keyed[0] if keyed else recommended


def _default_model(spec: ProviderSpec, config: Config) -> str:
    """The model in use when this provider can serve it, else the provider's own default."""
    current = config.agents.defaults.model
    named = spec_named_by_prefix(current)
    if named is spec or (named is None and current != Config().agents.defaults.model):
        return current
    return spec.default_model or (current if spec.is_gateway else "")


def _found_server() -> FoundModel | None:
    from nanobot.providers.discovery import find_model

    return asyncio.run(find_model(""))


def _local_model() -> str:
    from nanobot.providers.local import LOCAL_MODEL

    return LOCAL_MODEL


def _provider_names() -> str:
    return ", ".join([*(spec.name for spec in PROVIDERS if not spec.oauth), _LOCAL])
