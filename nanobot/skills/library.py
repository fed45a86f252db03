"""The skills there are: those of the workspace, and the bundled ones that they do not shadow."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nanobot.config.schema import Config
from nanobot.errors import UsageError
from nanobot.skills import front_matter
from nanobot.skills.skill import SKILL_FILE, Missing, Skill, SkillSource, load_skill, missing, read_skill_file

BUNDLED = Path(__file__).parent

_Stamp = tuple[int, int, int]


class SkillLibrary:
    """Finds skills in `{workspace}/skills` and beside this file. Changes count from the next call on.

    `env_names` and `has_exec` say what commands may see, as in `missing`.
    """

    def __init__(self, workspace: Path, *, env_names: Iterable[str] = (), has_exec: bool = True) -> None:
        self.folder = workspace / "skills"
        self._env_names = tuple(env_names)
        self._has_exec = has_exec
        self._read: dict[str, tuple[_Stamp, Skill]] = {}  # by path of the folder

    def all(self) -> list[Skill]:
        """Every folder with a SKILL.md, workspace first, in the order of names; faulty ones included."""
        return [*self._found(self.folder, "workspace"), *self._found(BUNDLED, "bundled")]

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
        """The instructions of a skill, its front matter left out. Raises UsageError."""
        return self.instructions(self.get(name))

    def instructions(self, skill: Skill) -> str:
        """The instructions of `skill` as they are now. Raises UsageError."""
        try:
            return front_matter.split(read_skill_file(skill.folder))[1]
        except (OSError, ValueError) as error:
            raise UsageError(f"The skill {skill.name!r} cannot be read: {error}.") from error

    def missing(self, skill: Skill) -> list[Missing]:
        """What keeps `skill` from working on this machine."""
        return missing(skill, self._env_names, has_exec=self._has_exec)

    def _found(self, root: Path, source: SkillSource) -> list[Skill]:
        try:
            with os.scandir(root) as entries:
                folders = sorted(entry.path for entry in entries if not entry.name.startswith((".", "_")))
        except OSError:
            return []
        return [skill for folder in folders if (skill := self._skill(folder, source)) is not None]

    def _skill(self, folder: str, source: SkillSource) -> Skill | None:
        """The skill in `folder`, read anew only if its SKILL.md changed; None if there is no such file.

        Every turn asks, so paths are plain text here: making Path objects takes longer than asking the disk.
        """
        try:
            status = os.lstat(f"{folder}/{SKILL_FILE}")
        except OSError:
            return None
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        known = self._read.get(folder)
        if known is None or known[0] != stamp:
            known = self._read[folder] = (stamp, load_skill(Path(folder), source))
        return known[1]


def library_of(config: Config) -> SkillLibrary:
    """The library of the configured workspace."""
    command = config.tools.exec
    return SkillLibrary(config.workspace_path, env_names=command.env, has_exec=command.enabled)
