"""The skills there are: those of the workspace, and the bundled ones that they do not shadow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nanobot.config.schema import Config
from nanobot.errors import UsageError
from nanobot.skills.skill import Missing, Skill, SkillSource, load_skill, missing, skill_file_name

BUNDLED = Path(__file__).parent
_DEPTH = 3  # folders within folders in which skills are looked for


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
                self._read[folder] = (stamp, load_skill(Path(folder), source))
                yield self._read[folder][1]


def library_of(config: Config) -> SkillLibrary:
    """The library of the configured workspace."""
    command = config.tools.exec
    return SkillLibrary(config.workspace_path, env_names=command.env, has_exec=command.enabled)
