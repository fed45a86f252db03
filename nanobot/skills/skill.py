"""One skill: what its SKILL.md declares, and what it needs to be of use.

The format is that of https://agentskills.io/specification. Beyond it, as older nanobots and OpenClaw
write it, `metadata` may hold a mapping or one line of JSON under `nanobot` or `openclaw`: `always`,
`requires`, `os`, `install`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nanobot.skills import front_matter

SKILL_FILE = "SKILL.md"
SKILL_BYTES = 256_000
_NAME_CHARS = 64
_DESCRIPTION_CHARS = 1024

NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_VENDORS = ("nanobot", "openclaw", "clawdbot", "clawdis")
_SYSTEMS = {"darwin": "macos", "win32": "windows", "mac": "macos", "osx": "macos"}
_INSTALLERS = {
    **dict.fromkeys(("npm", "node"), "npm install -g"),
    **{kind: f"{kind} install" for kind in ("brew", "pip", "pipx", "go", "cargo")},
    "apt": "sudo apt install",
    "uv": "uv tool install",
}

SkillSource = Literal["workspace", "bundled"]


class Requirements(NamedTuple):
    """What must be there: all `bins`, one of `any_bins`, all `env` variables, one of the systems `os`."""

    bins: tuple[str, ...] = ()
    any_bins: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    os: tuple[str, ...] = ()


class Skill(NamedTuple):
    """A skill in `folder`. With a `fault`, a text that says why, it cannot be used.

    `odd` is in what it is unlike the format; it is used all the same.
    """

    name: str
    folder: Path
    source: SkillSource
    description: str = ""
    license: str = ""
    compatibility: str = ""
    homepage: str = ""
    allowed_tools: tuple[str, ...] = ()
    always: bool = False
    requires: Requirements = Requirements()
    install: tuple[str, ...] = ()  # commands that would meet requirements, as the skill proposes them
    file_name: str = SKILL_FILE
    odd: tuple[str, ...] = ()
    fault: str = ""

    @property
    def file(self) -> Path:
        return self.folder / self.file_name

    def read(self) -> tuple[Mapping[str, Any], str, str]:
        """(front matter, instructions, what is wrong with the former) of its file as it is now.

        Raises OSError, and ValueError when it is no text or too long.
        """
        status = self.file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{self.file_name} is not a regular file")
        if status.st_size > SKILL_BYTES:
            raise ValueError(f"{self.file_name} is larger than {SKILL_BYTES:,} bytes")
        try:
            return front_matter.read(self.file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.file_name} is not UTF-8 text") from error


class Missing(NamedTuple):
    """An unmet requirement: `what` in two or three words, `fix` says how to meet it."""

    what: str
    fix: str


def load_skill(folder: Path, source: SkillSource, *, strict: bool = False) -> Skill:
    """Read the skill in `folder`. Never raises: what keeps it from being used becomes its `fault`.

    A folder of the owner's own goes by the folder's name and needs no more than a text, as in the older
    nanobot. When `strict`, as for what strangers offer, the format is demanded, the name is as declared.
    """
    skill = Skill(folder.name, folder, source)
    try:
        skill = skill._replace(file_name=skill_file_name(str(folder)) or SKILL_FILE)
        keys, body, problem = skill.read()
    except OSError as error:
        return skill._replace(fault=f"{SKILL_FILE} cannot be read: {error.strerror or error}")
    except ValueError as error:
        return skill._replace(fault=str(error))
    declared, described = _text(keys.get("name")) or folder.name, _text(keys.get("description"))
    name = declared if strict else folder.name
    odd = [problem] if problem else []
    if skill.file_name != SKILL_FILE:
        odd.append(f"its file is called {skill.file_name}, not {SKILL_FILE}")
    if name != declared:
        odd.append(f"its name {declared} is not that of its folder, {name}")
    if len(name) > _NAME_CHARS or not NAME.fullmatch(name):
        rule = f"lowercase letters, digits and single hyphens, at most {_NAME_CHARS} characters"
        odd.append(f"its name {name[:80]!r} is not made of {rule}")
    if not described:
        odd.append("it has no description")
    if len(described) > _DESCRIPTION_CHARS:
        odd.append(f"its description is longer than {_DESCRIPTION_CHARS:,} characters")
    if odd and (strict or not name.isprintable()):
        return skill._replace(fault=odd[0])
    first_words = filter(None, (_text(line.strip("#*>-_` ")) for line in body.split("\n")))
    description = (described or next(first_words, name))[:_DESCRIPTION_CHARS]
    return _declared(skill, keys)._replace(name=name, description=description, odd=tuple(odd))


def skill_file_name(folder: str) -> str:
    """How SKILL.md is spelled in `folder`; "" if it is not there. Raises OSError when that is no folder."""
    if os.path.lexists(f"{folder}/{SKILL_FILE}"):
        return SKILL_FILE
    with os.scandir(folder) as entries:
        return next((entry.name for entry in entries if entry.name.upper() == SKILL_FILE.upper()), "")


def _declared(skill: Skill, keys: Mapping[str, Any]) -> Skill:
    """`skill` with what its front matter says beside name and description."""
    metadata = _mapping(keys.get("metadata"))
    extra = next((found for vendor in _VENDORS if (found := _mapping(metadata.get(vendor)))), metadata)
    requires = _mapping(extra.get("requires", keys.get("requires")))
    return skill._replace(
        license=_text(keys.get("license")),
        compatibility=_text(keys.get("compatibility")),
        homepage=_text(keys.get("homepage") or extra.get("homepage")),
        allowed_tools=_words(keys.get("allowed-tools")),
        always=_true(keys.get("always")) or _true(extra.get("always")),
        requires=Requirements(
            bins=_words(requires.get("bins")),
            any_bins=_words(requires.get("anyBins")),
            env=_words(requires.get("env")),
            os=tuple(_SYSTEMS.get(word, word) for word in _words(extra.get("os") or requires.get("os"))),
        ),
        install=tuple(_install_commands(extra.get("install"))),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is a mapping, also as JSON text; else an empty one."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    """One line without invisible or control characters; "" for what is no text."""
    if not isinstance(value, str):
        return ""
    line = " ".join(value.split())
    return line if line.isprintable() else "".join(filter(str.isprintable, line))


def _words(value: Any) -> tuple[str, ...]:
    """A list of words, or words in one text."""
    items = re.split(r"[,\s]+", value) if isinstance(value, str) else value
    found = (_text(item) for item in items) if isinstance(items, list) else ()
    return tuple(word for word in found if word)


def _true(value: Any) -> bool:
    return str(value).lower() in ("true", "yes", "on")


def _install_commands(value: Any) -> Iterator[str]:
    for step in value if isinstance(value, list) else []:
        if isinstance(step, Mapping):
            what = _text(step.get("formula") or step.get("package") or step.get("module"))
            command = _INSTALLERS.get(_text(step.get("kind") or step.get("id")))
            if command and re.fullmatch(r"[\w@./:+=~^-]+", what):
                yield f"{command} {what}"


def missing(skill: Skill, env_names: Iterable[str] = (), *, has_exec: bool = True) -> list[Missing]:
    """What keeps `skill` from working here.

    `env_names` are the variables the owner lets commands see (`tools.exec.env`); others do not count, as
    a skill's commands could not use them. Without `has_exec` there are no commands at all.
    """
    needs = skill.requires
    lacking = [program for program in needs.bins if shutil.which(program) is None]
    if needs.any_bins and not any(map(shutil.which, needs.any_bins)):
        lacking.append(" or ".join(needs.any_bins))
    proposed = " or ".join(f"`{command}`" for command in skill.install)
    found = [
        Missing(
            names,
            f"The skill proposes: {proposed}." if proposed else f"Install {names} so that it is on PATH.",
        )
        for names in lacking
    ]
    if (needs.bins or needs.any_bins) and not has_exec:
        fix = "Set tools.exec.enabled to true in config.json: it runs programs."
        found = [Missing("the exec tool", fix)]
    for name in needs.env:
        from nanobot.security.process import child_environment

        is_seen = bool(child_environment(env_names).get(name))
        allow = f'add "{name}" to tools.exec.env in config.json, as commands see no other variables'
        if os.environ.get(name) and not is_seen:
            found.append(Missing(f"${name} for commands", f"{name} is set; {allow}."))
        elif not is_seen:
            found.append(Missing(f"${name}", f"`export {name}=…` where nanobot is started, and {allow}."))
    here = _SYSTEMS.get(sys.platform, sys.platform)
    if needs.os and here not in needs.os:
        systems = " or ".join(needs.os)
        found.append(Missing(systems, f"It works on {systems} only; this is {here}."))
    return found
