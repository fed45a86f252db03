"""`nanobot onboard`: provider, key, check, first reply. Nothing is written before all of it is known."""

from __future__ import annotations

import asyncio
import copy
import getpass
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from nanobot import paths
from nanobot.cli.status import has_key
from nanobot.config.loader import update_config_file, write_default_config
from nanobot.config.schema import Config
from nanobot.errors import ProviderError, UsageError
from nanobot.messages import Message
from nanobot.providers.base import Completion, ModelRequest
from nanobot.providers.registry import LOCAL_MODEL, PROVIDERS, ProviderSpec, spec_named_by_prefix
from nanobot.providers.resolve import open_provider, resolve
from nanobot.terminal.config import load_and_warn
from nanobot.terminal.screen import clean, complain
from nanobot.workspace import create_workspace

_LOCAL = ProviderSpec("local", (), "", "Tiny model on this machine (no key, chats only)", needs_key=False)
_SPECS = [*(spec for spec in PROVIDERS if not spec.oauth), _LOCAL]
_FIRST_WORDS = "Hello! In one or two sentences: who are you, and what can you do for me?"


@dataclass(frozen=True, slots=True)
class OnboardOptions:
    """The options of `nanobot onboard`. An `api_key` of `-` is read from standard input."""

    provider: str = ""
    api_key: str = ""
    api_key_env: str = ""
    api_base: str = ""
    model: str = ""
    skip_check: bool = False
    non_interactive: bool = False


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is to be used; an empty key or address leaves the one there is."""

    spec: ProviderSpec
    model: str
    api_key: str = ""
    api_base: str = ""

    def changes(self) -> dict[str, object]:
        """The keys of config.json to set."""
        section = f"providers.{self.spec.name}"
        wanted = {f"{section}.apiKey": self.api_key, f"{section}.apiBase": self.api_base}
        return {"agents.defaults.model": self.model, **{key: value for key, value in wanted.items() if value}}

    def applied_to(self, config: Config) -> Config:
        """A copy of `config` as it will be."""
        changed = copy.deepcopy(config)
        changed.agents.defaults.model = self.model
        if self.spec is not _LOCAL:
            section = getattr(changed.providers, self.spec.name)
            section.api_key = self.api_key or section.api_key
            section.api_base = self.api_base or section.api_base
            section.fault = "" if self.api_key or self.api_base else section.fault
        return changed


def run_onboard(options: OnboardOptions) -> int:
    """Set nanobot up; returns the exit code. Raises NanobotError; the file is as it was then."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # now that everything is imported
    config = load_and_warn().config
    asks = sys.stdin.isatty() and not options.non_interactive
    choice = None
    try:
        if asks:
            choice = _ask_until_it_works(config, options)
        elif options.provider or options.api_key or options.api_key_env or options.api_base or options.model:
            choice = _choose(config, options, lambda _, default: default)
            choice = choice if options.skip_check else asyncio.run(_checked(choice, config))
    except (KeyboardInterrupt, EOFError):
        print("\nNothing was changed.")
        return 130
    write_default_config(paths.config_file())
    if choice:
        update_config_file(paths.config_file(), choice.changes())
    create_workspace(config.workspace_path)
    print(f"Configuration: {paths.config_file()}\nWorkspace:     {config.workspace_path}")
    if asks and not options.skip_check:
        from nanobot.terminal.agent import run_agent
        from nanobot.terminal.options import AgentOptions

        print("\nThe first reply:\n", flush=True)
        return run_agent(AgentOptions(message=_FIRST_WORDS))
    print("Next: `nanobot status` shows what is configured, `nanobot agent` begins a conversation.")
    return 0


def _ask_until_it_works(config: Config, options: OnboardOptions) -> _Choice:
    print(f"This sets up nanobot in {paths.home()}. Enter keeps what is in brackets, Ctrl-C changes nothing.")
    for spec in _SPECS:
        print(f"  {spec.name:<14}{spec.title}{', has a key' if has_key(spec, config) else ''}")
    while True:
        try:
            choice = _choose(config, options, _ask)
            if options.skip_check:
                return choice
            print(f"Asking {clean(choice.model)} for a word …", flush=True)
            choice = asyncio.run(_checked(choice, config))
        except (ProviderError, UsageError) as error:
            complain(
                f"Error: {error}\nOnce more, please; `nanobot onboard --skip-check` keeps what does not work."
            )
            options = OnboardOptions()
        else:
            print("It answers.")
            return choice


def _ask(question: str, default: str) -> str:
    """What the owner answers in a line, hidden if it is a key; an empty one takes the default."""
    read = getpass.getpass if question.startswith("API key") else input
    hint = f" [{default}]" if default else ""
    return clean(read(f"{question}{hint}: ")).strip() or default


def _choose(config: Config, options: OnboardOptions, ask: Callable[[str, str], str]) -> _Choice:
    """What the options say, and where they do not, what `ask` gives. Raises UsageError."""
    spec = _find(options.provider or ask("Provider", _provider_in_use(config, options)))
    if spec is _LOCAL:
        return _Choice(spec, options.model or LOCAL_MODEL)
    current = getattr(config.providers, spec.name).api_base or spec.default_api_base
    asks_base = not (spec.default_api_base and spec.needs_key)
    base = options.api_base or (ask("Base URL", current) if asks_base else current)
    if not base:
        raise UsageError(f"{spec.title} needs the address its API begins with: --api-base.")
    known = has_key(spec, config)
    key = _key(options) or ask(f"API key ({'Enter keeps the present one' if known else 'hidden'})", "")
    if spec.needs_key and not (key or known):
        raise UsageError(f"{spec.title} needs a key: --api-key-env VARIABLE, or --api-key - and it on stdin.")
    model = options.model or ask("Model", _default_model(spec, config))
    if not model:
        raise UsageError("Name the model to use: --model.")
    return _Choice(spec, model, key, "" if base == current else base)


def _find(name: str) -> ProviderSpec:
    wanted = name.strip().replace("-", "_").lower()
    for spec in _SPECS:
        if wanted in (spec.name, spec.title.lower()):
            return spec
    names = ", ".join(spec.name for spec in _SPECS)
    raise UsageError(f"{name!r} is no provider. Use one of: {names}.")


def _key(options: OnboardOptions) -> str:
    if options.api_key_env:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key:
            raise UsageError(f"The environment variable {options.api_key_env} is empty or not set.")
        return key
    return sys.stdin.readline().strip() if options.api_key == "-" else options.api_key


def _provider_in_use(config: Config, options: OnboardOptions) -> str:
    """The provider that the model names, else one with a key, else one that is easy to begin with."""
    model = options.model or config.agents.defaults.model
    named = spec_named_by_prefix(model)
    if model == LOCAL_MODEL or (named and has_key(named, config)):
        return named.name if named else _LOCAL.name
    return next((spec.name for spec in _SPECS if has_key(spec, config)), "openrouter")


def _default_model(spec: ProviderSpec, config: Config) -> str:
    """The model in use when this provider can serve it, else the provider's own default."""
    current = config.agents.defaults.model
    named = spec_named_by_prefix(current)
    if named is spec or (named is None and current != Config().agents.defaults.model):
        return current
    return spec.default_model or (current if spec.is_gateway else "")


async def _checked(choice: _Choice, config: Config) -> _Choice:
    """Has the model say a word. The choice names its provider if another one would answer to the name."""
    candidate = choice.applied_to(config)
    resolution = await resolve(candidate, choice.model)
    if resolution.provider_name != choice.spec.name:
        choice = replace(choice, model=f"{choice.spec.name}/{choice.model}")
        resolution = await resolve(candidate, choice.model)
    provider = open_provider(resolution, candidate)
    question = [Message.user("Reply with the single word: ready")]
    request = ModelRequest(resolution.model, "You are a helpful assistant.", question, (), max_tokens=64)
    try:
        async for event in provider.stream(request):
            if isinstance(event, Completion):
                break
    finally:
        await provider.aclose()
    return choice
