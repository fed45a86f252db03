"""Writes the reference pages that follow from the code: docs/config.md, config.schema.json and cli.md.

`python scripts/generate_docs.py` writes them; with `--check` it changes nothing, names the pages that
are stale, and exits with 1 if there are any.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from nanobot.config.json_schema import config_schema
from nanobot.config.schema import Config
from nanobot.config.section import Field, Section, entry_of, fields_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTE = "<!-- Written by scripts/generate_docs.py; change the code it reads, not this page. -->"

CONFIG_INTRODUCTION = """# Configuration

`~/.nanobot/config.json` (`$NANOBOT_HOME/config.json` if that is set) holds what you want different from
the defaults below; a missing file or key means the default.

- Keys are written in camelCase; snake_case is read as well.
- An environment variable beats the file: `NANOBOT_` and the path with `__` between its parts, such as
  `NANOBOT_AGENTS__DEFAULTS__MODEL` or `NANOBOT_CHANNELS__TELEGRAM__ALLOW_FROM='["1234"]'`. Lists and
  objects are JSON; they replace what the file says.
- `${NAME}` or `${env:NAME}` in a text is replaced by that environment variable, `${NAME:-text}` by the text
  where it is not set, and `$${` stands for `${`.
- An MCP server, a provider, a channel or a subagent profile with a wrong value, or with a variable that is
  not set, is off and named; everything else works. Elsewhere a wrong value is an error, and for a variable
  that is not set the default counts. What has `"enabled": false` or `"disabled": true` needs no variables.
- An unknown key is reported, with the known one it may be a slip of, and otherwise ignored. A key that is
  given twice in one object is an error that names both places.
- nanobot never replaces a file it cannot read, and what it sets in one leaves the rest byte for byte.
- Entries of MCP servers, and whole files with them, may be pasted as Claude, Cursor, VS Code, Codex,
  Windsurf and Gemini have them.
- `*` stands for a name of your choice. Keys marked 🔑 are secrets and never shown.
- `config.schema.json`, also printed by `nanobot config schema`, lets editors complete and check the file;
  point `"$schema"` at it.
"""

CLI_INTRODUCTION = "# Command line\n\nEvery command also takes `--help`.\n"


def config_page() -> str:
    """docs/config.md."""
    return "\n".join([NOTE, "", CONFIG_INTRODUCTION, *_sections(Config, "")])


def schema_page() -> str:
    """docs/config.schema.json."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


def cli_page() -> str:
    """docs/cli.md."""
    import typer.main

    from nanobot.cli.main import app

    root = typer.main.get_command(app)
    return "\n".join([NOTE, "", CLI_INTRODUCTION, *_commands(root, "nanobot")])


PAGES: dict[str, Callable[[], str]] = {
    "config.md": config_page,
    "config.schema.json": schema_page,
    "cli.md": cli_page,
}


def _sections(section: type[Section], path: str, note: str = "") -> Iterator[str]:
    """A table of the plain keys of `section`, then the sections within it."""
    fields = fields_of(section)
    rows = [_row(key, field) for key, field in fields.items() if not _inner(field.annotation)]
    if rows:
        yield from (f"## {path}", "", *([note, ""] if note else []))
        yield from ("| key | type | default | meaning |", "|---|---|---|---|", *rows, "")
    for inner, names in _inner_sections(section).items():
        if len(names) == 1:
            yield from _sections(inner, f"{path}.{names[0]}".lstrip("."))
        else:
            choices = ", ".join(f"`{name}`" for name in names)
            yield from _sections(inner, f"{path}.*", f"`*` is one of {choices}.")


def _inner(kind: Any) -> type[Section] | None:
    kind = entry_of(kind) or kind
    return kind if fields_of(kind) else None


def _inner_sections(section: type[Section]) -> dict[type[Section], list[str]]:
    """The sections within `section` with their names; keys that share a section class come together."""
    result: dict[type[Section], list[str]] = {}
    for key, field in fields_of(section).items():
        inner = _inner(field.annotation)
        if inner:
            name = f"{key}.*" if entry_of(field.annotation) else key
            result.setdefault(inner, []).append(name)
    return result


def _row(key: str, field: Field) -> str:
    default = f"`{json.dumps(field.default, ensure_ascii=False)}`"
    secret = "" if field.repr else " 🔑"
    also = f" Also read as {', '.join(f'`{name}`' for name in field.also)}." if field.also else ""
    return _cells(f"`{key}`{secret}", _type_words(field.annotation), default, f"{field.description}{also}")


def _type_words(kind: Any) -> str:
    options = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{option}"`' for option in options)
    if get_origin(kind) is list:
        return f"list of {_type_words(options[0])}"
    if get_origin(kind) is dict:
        return f"object of {_type_words(options[1])}"
    if options:
        return " or ".join(_type_words(option) for option in options)
    return {bool: "true or false", int: "whole number", float: "number", str: "text", NoneType: "null"}[kind]


def _commands(command: Any, path: str) -> Iterator[str]:
    """`command` (of Typer's command tree) and those below it, hidden ones left out."""
    names = command.list_commands(None) if hasattr(command, "list_commands") else ()
    below = {name: child for name in names if not (child := command.get_command(None, name)).hidden}
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    usage = [path, *(_usage(parameter) for parameter in shown if not _is_option(parameter))]
    if any(_is_option(parameter) for parameter in shown):
        usage.insert(1, "[OPTIONS]")
    if below:
        usage.append("COMMAND")
    yield from (f"## {path}", "", _paragraphs(command.help), "", f"    {' '.join(usage)}", "")
    if shown:
        yield from ("| argument or option | meaning |", "|---|---|")
        yield from (*(_cells(f"`{_usage(parameter)}`", _meaning(parameter)) for parameter in shown), "")
    for name, child in below.items():
        yield from _commands(child, f"{path} {name}")


def _is_option(parameter: Any) -> bool:
    return bool(parameter.opts[0].startswith("-"))


def _usage(parameter: Any) -> str:
    if not _is_option(parameter):
        word = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
        return word if parameter.required else f"[{word}]"
    names = ", ".join(parameter.opts) + "".join(f" / {name}" for name in parameter.secondary_opts)
    return names if parameter.is_flag or parameter.count else f"{names} VALUE"


def _meaning(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split())
    default = parameter.default
    if isinstance(default, bool) and parameter.secondary_opts:
        return f"{text} Default: {'yes' if default else 'no'}."
    if isinstance(default, int | float | str) and not isinstance(default, bool) and default != "":
        return f"{text} Default: {default}."
    return text


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


def _cells(*texts: str) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"


def main(arguments: list[str], folder: Path = DOCS) -> int:
    check = arguments == ["--check"]
    if arguments and not check:
        print("usage: generate_docs.py [--check]", file=sys.stderr)
        return 2
    stale = []
    for name, page in PAGES.items():
        path, text = folder / name, page()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(f"docs/{name}")
            if not check:
                folder.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"Stale: {', '.join(stale)}. Run scripts/generate_docs.py and commit.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
