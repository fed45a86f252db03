"""`nanobot onboard`: provider, key, check, first reply. Nothing is written before all of it is known."""

from __future__ import annotations

import asyncio
import copy
import getpass
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from nanobot import paths
from nanobot.cli.status import has_key
from nanobot.config.loader import update_config_file
from nanobot.config.schema import Config
from nanobot.errors import AuthError, BadRequestError, ProviderError, UnreachableError, UsageError
from nanobot.messages import Message
from nanobot.providers.base import Completion, ModelRequest
from nanobot.providers.discovery import find_model
from nanobot.providers.local import find_weights
from nanobot.providers.registry import LOCAL_MODEL, PROVIDERS, ProviderSpec, spec_named_by_prefix
from nanobot.providers.resolve import open_provider, resolve
from nanobot.terminal.config import load_and_warn
from nanobot.terminal.screen import clean, complain
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
_NEXT_STEPS = """
Works now: `nanobot agent` begins a conversation, with files, commands, web pages and memory.
Next, if you like: a chat app (channels.telegram in config.json), skills (`nanobot skills list`), and
`nanobot gateway install`, the service that answers chats and serves reminders day and night."""
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
    update_config_file(paths.config_file(), choice.changes() if choice else {})
    create_workspace(config.workspace_path)
    print(f"Configuration: {paths.config_file()}\nWorkspace:     {config.workspace_path}")
    if asks and not options.skip_check:
        from nanobot.terminal.agent import run_agent
        from nanobot.terminal.options import AgentOptions

        print("\nThe first reply:\n", flush=True)
        code = run_agent(AgentOptions(message=_FIRST_WORDS))
        print(_NEXT_STEPS)
        return code
    print("Next: `nanobot status` shows what is configured, `nanobot agent` begins a conversation.")
    return 0


def _ask_until_it_works(config: Config, options: OnboardOptions) -> _Choice:
    """Ask, and after a failure only for what was wrong with the answers."""
    print(f"This sets up nanobot in {paths.home()}. Enter keeps what is in brackets, Ctrl-C changes nothing.")
    offers = _offers(config)
    for number, (label, _) in enumerate(offers, start=1):
        print(f"  {number}  {label}")
    shown = {offer.provider for _, offer in offers}
    print(f"  or, by name: {', '.join(spec.name for spec in _SPECS if spec.name not in shown)}")
    again, last = "", None
    while True:
        try:
            if not options.provider:
                default = "1" if offers[0][1].model and not last else _provider_in_use(config, options)
                options = _picked(_ask("Provider", default), offers, options)
            choice = _choose(config, options, _ask, again)
            if last and last.spec is choice.spec:
                kept = (choice.api_key or last.api_key, choice.api_base or last.api_base)
                choice = replace(choice, api_key=kept[0], api_base=kept[1])
            if options.skip_check:
                return choice
            print(f"Asking {clean(choice.model)} for a word …", flush=True)
            config, last = choice.applied_to(config), choice
            choice = asyncio.run(_checked(choice, config))
        except (ProviderError, UsageError) as error:
            complain(
                f"Error: {error}\nOnce more, please; `nanobot onboard --skip-check` keeps what does not work."
            )
            again = _wrong_answer(error, last)
            options = OnboardOptions(provider=last.spec.name if last and again else "")
        else:
            print("It answers.")
            return choice


def _offers(config: Config) -> list[tuple[str, OnboardOptions]]:
    """The short menu: what was found here, then what most people use; each with the answers it gives."""
    found = asyncio.run(find_model(config.agents.defaults.model))
    offers = []
    if found:
        answers = OnboardOptions(provider="custom", api_base=found.server.api_base, model=found.model)
        offers.append((f"{found.server.title} on this machine, with {found.model}", answers))
    keyed = [spec for spec in _SPECS if has_key(spec, config)]
    short = [spec for spec in _SPECS if spec.name in _SHORT_LIST and spec not in keyed]
    offers += [(f"{spec.title}, has a key", OnboardOptions(provider=spec.name)) for spec in keyed]
    offers += [(spec.title, OnboardOptions(provider=spec.name)) for spec in short]
    if find_weights():
        offers.append((_LOCAL.title, OnboardOptions(provider=_LOCAL.name)))
    return offers


def _picked(
    answer: str, offers: Sequence[tuple[str, OnboardOptions]], options: OnboardOptions
) -> OnboardOptions:
    """The options with what a number of the menu, or a name, says."""
    if answer.isdecimal() and 0 < int(answer) <= len(offers):
        offer = offers[int(answer) - 1][1]
        return replace(
            options,
            provider=offer.provider,
            api_base=options.api_base or offer.api_base,
            model=options.model or offer.model,
        )
    return replace(options, provider=_find(answer).name)


def _wrong_answer(error: ProviderError | UsageError, last: _Choice | None) -> str:
    """The field of OnboardOptions to ask for again; "" for all of them."""
    if isinstance(error, AuthError):
        return "api_key"
    if isinstance(error, UnreachableError) and last and _asks_base(last.spec):
        return "api_base"
    return "model" if isinstance(error, BadRequestError) else ""


def _asks_base(spec: ProviderSpec) -> bool:
    return not (spec.default_api_base and spec.needs_key)


def _ask(question: str, default: str) -> str:
    """What the owner answers in a line, hidden if it is a key; an empty one takes the default."""
    read = getpass.getpass if question.startswith("API key") else input
    hint = f" [{default}]" if default else ""
    return clean(read(f"{question}{hint}: ")).strip() or default


def _choose(
    config: Config, options: OnboardOptions, ask: Callable[[str, str], str], again: str = ""
) -> _Choice:
    """What the options say, and where they do not, what `ask` gives, or is known of all but `again`.

    Raises UsageError.
    """

    def answer(field: str, question: str, default: str) -> str:
        return ask(question, default) if again in ("", field) else default

    spec = _find(options.provider or ask("Provider", _provider_in_use(config, options)))
    if spec is _LOCAL:
        return _Choice(spec, options.model or LOCAL_MODEL)
    current = getattr(config.providers, spec.name).api_base or spec.default_api_base
    base = options.api_base or (answer("api_base", "Base URL", current) if _asks_base(spec) else current)
    if not base:
        raise UsageError(f"{spec.title} needs the address its API begins with: --api-base.")
    known = has_key(spec, config)
    key = _key(options)
    if not key and (spec.needs_key or again or not (options.api_base and options.model)):
        page = f", from {_KEY_PAGES[spec.name]}" if spec.name in _KEY_PAGES and not known else ""
        key = answer("api_key", f"API key ({'Enter keeps the present one' if known else 'hidden'}{page})", "")
    if spec.needs_key and not (key or known):
        raise UsageError(f"{spec.title} needs a key: --api-key-env VARIABLE, or --api-key - and it on stdin.")
    model = options.model or answer("model", "Model", _default_model(spec, config))
    if not model:
        raise UsageError("Name the model to use: --model.")
    return _Choice(spec, model, key, "" if base == current else _mended(base))


def _mended(base: str) -> str:
    """An address with its scheme: what runs on this machine or beside it rarely has https://."""
    if "://" in base:
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
