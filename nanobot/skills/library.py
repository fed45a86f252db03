"""The skills there are, the workspace's before bundled ones, and what the system prompt says of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanobot.config.schema import Config
from nanobot.errors import UsageError
from nanobot.messages import InboundMessage
from nanobot.skills.skill import SKILL_FILE, Missing, Skill, SkillSource, load_skill, missing, skill_file_name

BUNDLED = Path(__file__).parent
_DEPTH = 3  # folders within folders in which skills are looked for
_SHORTER = (1024, 200, 80, 40)  # characters of a description, tried in turn until the list fits
_HEAD = (
    "[skills] The owner's instructions for kinds of tasks. When one fits, or a message begins with its /NAME,"
    " first read it with read_file: "
)
_LACKING = " [needs …]: not usable yet; `nanobot skills show NAME` tells the owner what to do."


class SkillLibrary:
    """Finds skills in `{workspace}/skills` and beside this file. Changes count from the next call on.

    `env_names` and `has_exec` say what commands may see, as in `missing`.
    """

    def __init__(self, workspace: Path, *, env_names: Iterable[str] = (), has_exec: bool = True) -> None:
        self.folder = workspace / "skills"
        self._env_names = tuple(env_names)
        self._has_exec = has_exec
        self._read: dict[str, tuple[tuple[int, ...], Skill]] = {}  # by path of the folder

    def all(self) -> list[Skill]:
        """Every folder with a SKILL.md, workspace first, in the order of names; faulty ones included."""
        return [*self._found(str(self.folder), "workspace", _DEPTH), *self._found(str(BUNDLED), "bundled", 1)]

    def usable(self) -> list[Skill]:
        """The skills a model is told about: without fault, and the workspace's in place of bundled ones."""
        chosen: dict[str, Skill] = {}
        for skill in self.all():
            if not skill.fault:
                chosen.setdefault(skill.name, skill)
        return list(chosen.values())

    def names(self) -> list[str]:
        """The names of the usable skills."""
        return [skill.name for skill in self.usable()]

    def get(self, name: str) -> Skill:
        """The usable skill called `name`. Raises UsageError that lists the names there are."""
        for skill in self.usable():
            if skill.name == name:
                return skill
        faulty = next((skill for skill in self.all() if skill.name == name), None)
        reason = f"cannot be used: {faulty.fault}" if faulty else "does not exist"
        raise UsageError(f"The skill {name!r} {reason}. There are: {', '.join(self.names())}.")

    def text(self, name: str) -> str:
        """The instructions of a skill as they are now, its front matter left out. Raises UsageError."""
        try:
            return self.get(name).read()[1]
        except (OSError, ValueError) as error:
            raise UsageError(f"The skill {name!r} cannot be read: {error}.") from error

    def complaint(self) -> str:
        """One sentence about those skills of the owner's that are faulty or odd; "" when there is none."""
        skills = self.all()
        faulty = ", ".join(skill.name for skill in skills if skill.fault)
        odd = ", ".join(skill.name for skill in skills if skill.odd and not skill.fault)
        parts = [f"cannot be used: {faulty}"] * bool(faulty) + [f"used, but odd: {odd}"] * bool(odd)
        return f"Skills {'; '.join(parts)}. `nanobot skills list` says why." if parts else ""

    def missing(self, skill: Skill) -> list[Missing]:
        """What keeps `skill` from working on this machine just now."""
        return missing(skill, self._env_names, has_exec=self._has_exec)

    def _found(self, root: str, source: SkillSource, depth: int) -> Iterator[Skill]:
        """The skills below `root`, each read anew only if its file changed.

        Every turn asks, so paths are plain text here: making Path objects takes longer than the disk.
        """
        try:
            with os.scandir(root) as entries:
                folders = sorted(
                    (entry.path, entry.is_symlink()) for entry in entries if entry.name[0] != "."
                )
        except OSError:
            return
        for folder, is_link in folders:
            try:
                name = skill_file_name(folder)
                status = os.lstat(f"{folder}/{name}")
            except NotADirectoryError:
                continue
            except OSError:  # it leads nowhere, or may not be read
                yield load_skill(Path(folder), source)
                continue
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            known = self._read.get(folder)
            if not name and depth > 1 and not is_link:
                yield from self._found(folder, source, depth - 1)
            elif name and known and known[0] == stamp:
                yield known[1]
            elif name:
                skill = load_skill(Path(folder), source)
                if is_link and self._is_open(folder):
                    fault = "it is a link into the workspace, where tools may change it; move the folder here"
                    skill = skill._replace(fault=fault)
                self._read[folder] = (stamp, skill)
                yield skill

    def _is_open(self, link: str) -> bool:
        """Whether a link leads to what tools may write: into the workspace, but out of its skills."""
        real, own = Path(link).resolve(), self.folder.resolve()
        return real.is_relative_to(self.folder.parent.resolve()) and not real.is_relative_to(own)


def library_of(config: Config) -> SkillLibrary:
    """The library of the configured workspace."""
    command = config.tools.exec
    return SkillLibrary(config.workspace_path, env_names=command.env, has_exec=command.enabled)


@dataclass(frozen=True)
class SkillsSection:
    """A PromptSection: a list of skills in `list_bytes`; in `always_bytes`, whole, those wanted always."""

    library: SkillLibrary
    list_bytes: int
    always_bytes: int
    name = "skills"

    def text(self, inbound: InboundMessage) -> str:
        skills = self.library.usable()
        always = [skill for skill in skills if skill.always and not self.library.missing(skill)]
        listed = self._list([skill for skill in skills if skill not in always])
        return "\n\n".join(filter(None, [listed, *self._in_full(always)]))

    def _list(self, skills: Sequence[Skill]) -> str:
        needs = [", ".join(item.what for item in self.library.missing(skill)) for skill in skills]
        places = [f"{BUNDLED}/NAME/{SKILL_FILE}"] * any(skill.source == "bundled" for skill in skills)
        if any(skill.source == "workspace" for skill in skills):
            places.append(f"skills/NAME/{SKILL_FILE} (those with *)")
        head = f"{_HEAD}{', '.join(places)}.{_LACKING if any(needs) else ''}"
        for limit in _SHORTER:
            lines = [self._line(*one, limit) for one in zip(skills, needs, strict=True)]
            if _size([head, *lines]) <= self.list_bytes:
                return "\n".join([head, *lines]) if lines else ""
        while lines and _size([head, *lines, _more(len(skills))]) > self.list_bytes:
            lines.pop()
        return "\n".join([head, *lines, _more(len(skills) - len(lines))]) if lines else ""

    def _line(self, skill: Skill, needs: str, limit: int) -> str:
        mark = "*" if skill.source == "workspace" else ""
        if mark and skill.file != self.library.folder / skill.name / SKILL_FILE:
            mark = f"* in {skill.file.relative_to(self.library.folder.parent)}"
        lacks = f" [needs {needs}]" if needs else ""
        about = skill.description
        about = about if len(about) <= limit else f"{about[: limit - 1]}…"
        return f"- {skill.name}{mark}{lacks}: {about}"

    def _in_full(self, skills: Sequence[Skill]) -> list[str]:
        room = self.always_bytes
        parts = []
        for skill in skills:
            try:
                text = self.library.text(skill.name)
            except UsageError:  # gone since it was listed
                continue
            data = text.encode()
            if len(data) > room:
                text = data[:room].decode(errors="ignore") + f"\n[… cut; read {skill.file} for the rest …]"
            room = max(0, room - len(data))
            parts.append(f"[skill {skill.name}, in {skill.folder}]\n{text}")
        return parts


def _more(count: int) -> str:
    return f"- … and {count} more: list_dir skills, list_dir {BUNDLED}"


def _size(lines: Sequence[str]) -> int:
    return len("\n".join(lines).encode())
