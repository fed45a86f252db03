"""`nanobot skills`: what the assistant can do by instruction, and what a new skill brings with it."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from nanobot.cli.completion import names_of
from nanobot.cli.options import Json, new_app, print_result, say
from nanobot.columns import shortened, table
from nanobot.config.schema import Config
from nanobot.errors import UsageError
from nanobot.skills.install import Staged, remove, staged
from nanobot.skills.library import SkillLibrary, library_of
from nanobot.skills.preview import Preview, preview
from nanobot.skills.skill import Skill
from nanobot.terminal.options import load_and_warn
from nanobot.terminal.screen import clean

app = new_app()
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="As `nanobot skills list` shows it.", autocompletion=names_of("skills")
    ),
]


@app.command("list")
def list_skills(json_output: Json = False) -> None:
    """List skills, whether they can be used here, and if not, why."""
    _, library = _open()
    found = [(skill, _state(skill, library)) for skill in library.all()]
    rows = [("NAME", "FROM", "STATE", "DESCRIPTION")]
    rows += [(skill.name, skill.source, state, skill.description) for skill, state in found]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    lines = [shortened(line, width) for line in table([[*map(clean, row)] for row in rows], widest=40)]
    notes = [f"{skill.name}: {skill.fault}." for skill, _ in found if skill.fault]
    notes += [f"{skill.name}: used as it is, but {'; '.join(skill.odd)}." for skill, _ in found if skill.odd]
    notes += [f"{skill.name}: {item.fix}" for skill in library.usable() for item in library.missing(skill)]
    states = [_as_json(skill, library) | {"state": state} for skill, state in found]
    print_result(states, [*lines, *([""] if notes else []), *notes], json_output)


@app.command("show")
def show_skill(name: Name, json_output: Json = False) -> None:
    """Show one skill: what it needs, what it contains, and its text."""
    _, library = _open()
    skill = library.get(name)
    contents = preview(skill.folder)
    text = library.text(name)
    parts = {key: getattr(contents, key) for key in ("files", "commands", "urls", "hidden")}
    found = _as_json(skill, library) | {"contains": parts, "text": text}
    print_result(found, [*_about(skill, library), *_contents(contents), "", text], json_output)


@app.command("install")
def install_skill(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="Folder, SKILL.md, .zip, .tar.gz, https:// or clawhub:SLUG."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Trust it without being asked.")] = False,
) -> None:
    """Fetch a skill, show it, and install it if you say yes. Nothing of it is run."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # none leaves anything behind
        signal.signal(number, signal.default_int_handler)
    config, library = _open()
    if ":" in source:
        print(f"Fetching {source} …", file=sys.stderr, flush=True)
    try:
        with staged(source, library, config.tools.web.allow_private) as new:
            for line in [*_about(new.skill, library, new.target), *_contents(new.contents)]:
                say(line)
            say("\nA skill is instructions: once installed, it is followed as if you had written it.")
            if not (yes or _says_yes(new)):
                print("Nothing was installed.")
                raise typer.Exit(1)
            verb = "Replaced" if new.replaces else "Installed"
            new.install()
    except KeyboardInterrupt as interrupt:
        print("\nNothing was installed.")
        raise typer.Exit(130) from interrupt
    say(f"{verb} {new.skill.name} in {new.target}. It counts from the next message on.")


@app.command("remove")
def remove_skill(name: Name) -> None:
    """Delete a skill of the workspace; the bundled ones stay."""
    _, library = _open()
    place = remove(name, library)
    now = " The bundled skill of this name is used again." if name in library.names() else ""
    say(f"Removed {name}: {place} is deleted.{now}")


def _open() -> tuple[Config, SkillLibrary]:
    config = load_and_warn().config
    return config, library_of(config)


def _state(skill: Skill, library: SkillLibrary) -> str:
    if skill.fault:
        return "skipped"
    if library.get(skill.name) is not skill:
        return "shadowed"
    lacks = ", ".join(item.what for item in library.missing(skill))
    return f"needs {lacks}" if lacks else "ready"


def _as_json(skill: Skill, library: SkillLibrary) -> dict[str, Any]:
    needs = [item._asdict() for item in library.missing(skill)] if not skill.fault else []
    fields = skill._asdict() | {"folder": str(skill.folder), "requires": skill.requires._asdict()}
    return fields | {"available": not needs and not skill.fault, "missing": needs}


def _about(skill: Skill, library: SkillLibrary, place: object = None) -> Iterator[str]:
    bundled = any((known.name, known.source) == (skill.name, "bundled") for known in library.all())
    yield f"{skill.name}: {skill.description}"
    facts = {
        "Folder": str(place or skill.folder),
        "Licence": skill.license,
        "Compatibility": skill.compatibility,
        "Homepage": skill.homepage,
        "Tools": " ".join(skill.allowed_tools),
        "Proposes": ", ".join(skill.install),
        "Always": "its text is part of every prompt" if skill.always else "",
        "Replaces": "the skill of this name that came with nanobot" if place and bundled else "",
    }
    yield from (f"{title:<14} {text}" for title, text in facts.items() if text)
    for item in library.missing(skill):
        yield f"{'Needs':<14} {item.what}. {item.fix}"


def _contents(contents: Preview) -> Iterator[str]:
    sections = {
        "Files": [f"{name}, {size:,} bytes, {kind}" for name, size, kind in contents.files],
        "Scripts": [name for name, _, kind in contents.files if kind == "script"],
        "Commands it names": contents.commands,
        "Addresses it names": contents.urls,
        "Hidden in it, look closely": contents.hidden,
    }
    for title, lines in sections.items():
        yield f"\n{title}:{'' if lines else ' none'}"
        yield from (f"  {line}" for line in lines)


def _says_yes(new: Staged) -> bool:
    """Ask until there is an answer; `v` shows the files first. Raises UsageError if nobody can be asked."""
    if not sys.stdin.isatty():
        raise UsageError("Nothing was installed: it needs your yes. Look at the above, then add --yes.")
    question = "Replace the skill of this name that is there" if new.replaces else "Install it"
    while True:
        try:
            answer = input(f"{question}? [y/N, v to view its files] ").strip().lower()
        except EOFError:
            return False
        if answer not in ("v", "view"):
            return answer in ("y", "yes")
        for name, _, kind in new.contents.files:
            if kind != "binary":
                text = (new.skill.folder / name).read_text(encoding="utf-8", errors="replace")
                say(f"\n----- {name}\n{text.rstrip()}\n-----\n")
