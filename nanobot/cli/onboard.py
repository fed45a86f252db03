"""`nanobot onboard`: provider, key, model, check. Nothing is written before a model has answered."""

from __future__ import annotations

import asyncio
import copy
import difflib
import getpass
import os
import re
import signal
import sys
from dataclasses import dataclass, replace

from nanobot import paths
from nanobot.cli.options import say
from nanobot.cli.status import has_key
from nanobot.config.loader import load_config, update_config_file
from nanobot.config.schema import Config
from nanobot.errors import AuthError, BadRequestError, ProviderError, UnreachableError, UsageError
from nanobot.messages import Message
from nanobot.providers.base import Completion, ModelRequest
from nanobot.providers.discovery import chat_models, find_servers
from nanobot.providers.local import find_weights
from nanobot.providers.registry import LOCAL_MODEL, PROVIDERS, ProviderSpec, spec_named_by_prefix, wire_model
from nanobot.providers.resolve import open_provider, resolve
from nanobot.providers.transport import WireProvider
from nanobot.terminal.options import load_and_warn
from nanobot.terminal.screen import clean, complain, wrapped
from nanobot.workspace import create_workspace

_LOCAL = ProviderSpec("local", (), "", "Tiny model on this machine (no key, chats only)", needs_key=False)
_SPECS = [*(spec for spec in PROVIDERS if not spec.oauth), _LOCAL]
_SHORT_LIST = ("openrouter", "anthropic", "openai")  # what the menu offers to whom nothing was found
_KEY_PAGES = {
    "openrouter": "https://openrouter.ai/keys",
    "anthropic": "https://console.anthropic.com/settings/keys",
    "openai": "https://platform.openai.com/api-keys",
    "deepseek": "https://platform.deepseek.com/api_keys",
    "gemini": "https://aistudio.google.com/apikey",
    "groq": "https://console.groq.com/keys",
    "moonshot": "https://platform.moonshot.ai/console/api-keys",
    "zhipu": "https://open.bigmodel.cn/usercenter/apikeys",
    "siliconflow": "https://cloud.siliconflow.cn/account/ak",
    "aihubmix": "https://aihubmix.com/token",
}
_SHOWN = 12  # models that are listed at once
_FIRST_WORDS = "Hello! In one or two sentences: who are you, and what can you do for me?"
_NEXT_STEPS = """
Works now: conversations (`{nanobot} agent`), with files, commands, web pages and memory.
Next, if you like:
  Telegram    Get a token from @BotFather and your id from @userinfobot, then:
              {nanobot} config set channels.telegram.token TOKEN
              {nanobot} config set channels.telegram.allowFrom '["YOUR_ID"]'
              {nanobot} config set channels.telegram.enabled true
  Web search  Works without a key; better with one of https://brave.com/search/api:
              {nanobot} config set tools.web.search.apiKey KEY
  Always on   For chats and reminders: {nanobot} gateway install"""


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


@dataclass(slots=True)
class _Choice:
    """What is to be used. None is not known yet; an empty key or address leaves the one there is."""

    spec: ProviderSpec
    model: str | None = None
    api_key: str | None = None
    api_base: str | None = None

    def changes(self) -> dict[str, object]:
        """The keys of config.json to set."""
        section = f"providers.{self.spec.name}"
        wanted = {f"{section}.apiKey": self.api_key, f"{section}.apiBase": self.api_base}
        return {"agents.defaults.model": self.model, **{key: value for key, value in wanted.items() if value}}

    def applied_to(self, config: Config) -> Config:
        """A copy of `config` as it will be."""
        changed = copy.deepcopy(config)
        changed.agents.defaults.model = self.model or f"{self.spec.name}/any"
        if self.spec is not _LOCAL:
            section = getattr(changed.providers, self.spec.name)
            section.api_key = self.api_key or section.api_key
            section.api_base = self.api_base or section.api_base
            section.fault = "" if self.api_key or self.api_base else section.fault
        return changed


def run_onboard(options: OnboardOptions) -> int:
    """Set nanobot up; returns the exit code. Raises NanobotError; the file is as it was then."""
    config = load_and_warn().config
    asks = sys.stdin.isatty() and not options.non_interactive
    if asks and not _set_up(config, options):
        return 130
    if not asks:
        choice = _given(config, options)
        if choice and not options.skip_check:
            asyncio.run(_check(choice, config))
        _write(choice, config)
    say(f"Configuration: {paths.config_file()}\nWorkspace:     {config.workspace_path}")
    if asks and not options.skip_check:
        from nanobot.terminal.agent import run_agent
        from nanobot.terminal.options import AgentOptions

        say("\nThe first reply:\n")
        code = run_agent(AgentOptions(message=_FIRST_WORDS))
        say(_NEXT_STEPS.format(nanobot=paths.program()))
        return code
    say(
        f"Next: `{paths.program()} status` shows what is configured, "
        f"`{paths.program()} agent` begins a conversation."
    )
    return 0


def connect() -> str:
    """Ask until a model answers, and write it down; the name of that model, or "" when nothing changed."""
    if not (choice := _set_up(load_config().config, OnboardOptions())):
        return ""
    say(_NEXT_STEPS.format(nanobot=paths.program()) + "\n")
    return choice.model or ""


def _set_up(config: Config, options: OnboardOptions) -> _Choice | None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # now that everything is imported
    try:
        choice = _ask_until_it_works(config, options)
    except (KeyboardInterrupt, EOFError):
        say("\nNothing was changed.")
        return None
    _write(choice, config)
    return choice


def _write(choice: _Choice | None, config: Config) -> None:
    update_config_file(paths.config_file(), choice.changes() if choice else {})
    create_workspace(config.workspace_path)


def _given(config: Config, options: OnboardOptions) -> _Choice | None:
    """What the options say, with defaults for the rest; None when they say nothing. Raises UsageError."""
    key = _key(options)
    if not (options.provider or key or options.api_base or options.model):
        return None
    spec = _find(options.provider or _provider_in_use(config, options.model))
    base = options.api_base or _base_of(spec, config)
    if spec is not _LOCAL and not base:
        raise UsageError(f"{spec.title} needs the address its API begins with: --api-base.")
    if spec.needs_key and not (key or has_key(spec, config)):
        raise UsageError(f"{spec.title} needs a key: --api-key-env VARIABLE, or --api-key - and it on stdin.")
    model = options.model or _default_model(spec, config)
    if not model:
        raise UsageError("Name the model to use: --model.")
    return _Choice(spec, model, key, _mended(options.api_base))


def _ask_until_it_works(config: Config, options: OnboardOptions) -> _Choice:
    """Ask, and after a failure only for what was wrong with the answers."""
    say(f"This sets up nanobot in {paths.home()}. Enter takes what is in brackets, Ctrl-C changes nothing.")
    offers = _offers(config)
    for number, (label, _) in enumerate(offers, start=1):
        say(f"  {number}  {label}")
    shown = {offer.spec.name for _, offer in offers}
    say(f"  or, by name: {', '.join(spec.name for spec in _SPECS if spec.name not in shown)}")
    choice, keys, given = None, dict[str, str](), options
    while True:
        try:
            if choice is None:
                choice = _picked(config, offers, given)
                if choice.api_key is None:
                    choice.api_key = keys.get(choice.spec.name)
            _ask_missing(choice, config)
            if not options.skip_check:
                say(f"Asking {choice.model} for a word …")
                asyncio.run(_check(choice, config))
                say("It answers.")
            return choice
        except (ProviderError, UsageError) as error:
            said = (
                error.what if isinstance(error, ProviderError) else error
            )  # its advice is the next question
            complain(f"Error: {said}\nOnce more, please.")
            given = OnboardOptions()
            if choice and choice.api_key:
                keys[choice.spec.name] = choice.api_key
            if choice and not _forget_what_was_wrong(choice, error):
                choice = None


def _offers(config: Config) -> list[tuple[str, _Choice]]:
    """The short menu: what was found here, then what most people use; each with the answers it gives."""
    custom, offers = _find("custom"), []
    for server, models in asyncio.run(find_servers()):
        names = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
        found = _Choice(custom, models[0] if len(models) == 1 else None, "", server.api_base)
        offers.append((f"{server.title} on this machine, with {names}", found))
    keyed = [spec for spec in _SPECS if has_key(spec, config)]
    short = [spec for spec in _SPECS if spec.name in _SHORT_LIST and spec not in keyed]
    offers += [(f"{spec.title}, has a key", _Choice(spec, api_key="")) for spec in keyed]
    offers += [(spec.title, _Choice(spec)) for spec in short]
    if find_weights():
        offers.append((_LOCAL.title, _Choice(_LOCAL, LOCAL_MODEL)))
    return offers


def _picked(config: Config, offers: list[tuple[str, _Choice]], given: OnboardOptions) -> _Choice:
    """What a number of the menu, a name or an option says. Raises UsageError."""
    answer = given.provider
    if not answer:
        in_use = _provider_in_use(config, given.model)
        answer = _ask("Provider", "1" if offers[0][1].spec.name == "custom" else in_use)
    if answer.isdecimal() and 0 < int(answer) <= len(offers):
        choice = replace(offers[int(answer) - 1][1])
    else:
        choice = _Choice(_find(answer))
    choice.model = given.model or choice.model
    choice.api_key = _key(given) or choice.api_key
    choice.api_base = _mended(given.api_base) or choice.api_base
    return choice


def _ask_missing(choice: _Choice, config: Config) -> None:
    """Ask for what is not known. Raises UsageError, and ProviderError when the list of models fails."""
    spec = choice.spec
    if spec is _LOCAL:
        choice.model = LOCAL_MODEL
        return
    if choice.api_base is None and not (spec.default_api_base and spec.needs_key):
        current = _base_of(spec, config)
        typed = _ask("Address of its API", current)
        if not typed:
            raise UsageError(f"{spec.title} needs an address, such as http://localhost:8000/v1.")
        choice.api_base = "" if typed == current else _mended(typed)
    if choice.api_key is None:
        known = has_key(spec, config)
        keep = "Enter keeps the present one" if known else "hidden" if spec.needs_key else "Enter: none"
        page = f", from {_KEY_PAGES[spec.name]}" if spec.name in _KEY_PAGES and not known else ""
        choice.api_key = _ask(f"API key ({keep}{page})", "")
        if spec.needs_key and not (choice.api_key or known):
            choice.api_key = None
            raise UsageError(f"{spec.title} needs a key.")
    if choice.model is None:
        choice.model = _ask_model(choice, config)


def _ask_model(choice: _Choice, config: Config) -> str:
    """A model of the server's own list; part of a name searches it. Without a list, any name."""
    say(f"Asking {choice.api_base or choice.spec.title} for its models …")
    names = asyncio.run(models_of(choice.applied_to(config), choice.spec))
    default = _default_model(choice.spec, config)
    if names and wire_model(choice.spec, default) not in names:
        default = next(iter(difflib.get_close_matches(default, names, 1)), names[0])
    found, last = names, ""
    while True:
        for number, name in enumerate(found[:_SHOWN], start=1):
            say(f"  {number:>2}  {name}")
        more = f"{len(found) - _SHOWN} more: a part of the name searches. " if len(found) > _SHOWN else ""
        typed = _ask(f"{more}Model", default)
        if typed.isdecimal() and 0 < int(typed) <= len(found[:_SHOWN]):
            return found[int(typed) - 1]
        if typed and (not names or typed in (default, last, *names)):
            return typed
        words = typed.lower().split()
        matches = [name for name in names if all(word in name.lower() for word in words)]
        if not matches:
            say(f"It lists no model with {typed!r} in its name. The same once more takes it all the same.")
        found, last = matches, typed
        if len(matches) == 1:
            default = matches[0]


async def models_of(config: Config, spec: ProviderSpec) -> list[str]:
    """What its server lists for chatting; [] when it has no list. Raises ProviderError."""
    provider = open_provider(await resolve(config, f"{spec.name}/any"), config)
    try:
        return chat_models(await provider.models()) if isinstance(provider, WireProvider) else []
    except ProviderError as error:
        if error.status == 401 or isinstance(error, UnreachableError):
            raise
        return []  # then any name is taken, and tried
    finally:
        await provider.aclose()


def _forget_what_was_wrong(choice: _Choice, error: ProviderError | UsageError) -> bool:
    """Whether one of the answers is to be given again; the others stay."""
    if choice.spec is _LOCAL:
        return False
    if isinstance(error, AuthError):
        choice.api_key = None
    elif isinstance(error, UnreachableError) and choice.api_base is not None:
        choice.api_base = None
    elif isinstance(error, BadRequestError):
        choice.model = None
    else:
        return isinstance(error, UsageError)
    return True


def _ask(question: str, default: str) -> str:
    """What the owner answers in a line, hidden if it is a key; an empty one takes the default."""
    read = getpass.getpass if question.startswith("API key") else input
    hint = f" [{default}]" if default else ""
    return clean(read(f"{wrapped(f'{question}{hint}:', sys.stdout)} ")).strip() or default


def _base_of(spec: ProviderSpec, config: Config) -> str:
    section = getattr(config.providers, spec.name, None)
    return (section and section.api_base) or spec.default_api_base


def _mended(base: str) -> str:
    """An address with its scheme: what runs on this machine or beside it rarely has https://."""
    if "://" in base or not base:
        return base
    host = base.split("/")[0].rpartition(":")[0] or base.split("/")[0]
    near = host == "localhost" or "." not in host or host.replace(".", "").isdecimal()
    return f"{'http' if near else 'https'}://{base}"


def _find(name: str) -> ProviderSpec:
    """The provider of this name, title or alias, such as claude, gpt or kimi. Raises UsageError."""
    wanted = re.sub(r"[\s_-]", "", name.lower())
    exact = [spec for spec in _SPECS if wanted in (spec.name, spec.title.lower().replace(" ", ""))]
    alike = [spec for spec in _SPECS if any(word in wanted for word in spec.keywords)]
    begun = [spec for spec in _SPECS if len(wanted) > 2 and spec.name.startswith(wanted)]
    for found in (exact, alike, begun):
        if len(found) == 1:
            return found[0]
    names = ", ".join(spec.name for spec in _SPECS)
    raise UsageError(f"{name!r} is no provider. Use one of: {names}.")


def _key(options: OnboardOptions) -> str:
    if options.api_key_env:
        key = os.environ.get(options.api_key_env, "").strip()
        if not key:
            raise UsageError(f"The environment variable {options.api_key_env} is empty or not set.")
        return key
    return sys.stdin.readline().strip() if options.api_key == "-" else options.api_key


def _provider_in_use(config: Config, model: str) -> str:
    """The provider that the model names, else one with a key, else one that is easy to begin with."""
    model = model or config.agents.defaults.model
    named = spec_named_by_prefix(model)
    if model == LOCAL_MODEL or (named and has_key(named, config)):
        return named.name if named else _LOCAL.name
    return next((spec.name for spec in _SPECS if has_key(spec, config)), "openrouter")


def _default_model(spec: ProviderSpec, config: Config) -> str:
    """The model in use when this provider can serve it, else the provider's own default."""
    current = config.agents.defaults.model
    named = spec_named_by_prefix(current)
    if spec is _LOCAL or named is spec or (named is None and current != Config().agents.defaults.model):
        return LOCAL_MODEL if spec is _LOCAL else current
    return spec.default_model or (current if spec.is_gateway else "")


async def _check(choice: _Choice, config: Config) -> None:
    """Have the model say a word. The choice names its provider if another one would answer to the name."""
    candidate = choice.applied_to(config)
    resolution = await resolve(candidate, choice.model or "")
    if resolution.provider_name != choice.spec.name:
        choice.model = f"{choice.spec.name}/{choice.model}"
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
