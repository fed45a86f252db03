"""Installing and removing skills of the workspace. Nothing of a skill is run, and what is removed is gone."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from nanobot.config.json_text import loads, remove_key
from nanobot.errors import ConfigError, StorageError, UsageError
from nanobot.paths import write_atomic
from nanobot.skills.library import BUNDLED, SkillLibrary
from nanobot.skills.preview import Preview, preview
from nanobot.skills.skill import Skill, load_skill
from nanobot.skills.sources import fetch

_LEFT_SECONDS = 3600
_LOCK_FILES = tuple(f"{root}{dot}/lock.json" for root in ("", "skills/") for dot in (".clawhub", ".clawdhub"))


class Staged(NamedTuple):
    """A skill that was fetched and checked, and waits for its owner's word. `replaces` one that is there."""

    skill: Skill
    contents: Preview
    target: Path

    @property
    def replaces(self) -> bool:
        return self.target.is_symlink() or self.target.exists()

    def install(self) -> None:
        """Put it in place, at once as a whole. Raises StorageError."""
        old = self.skill.folder.with_name(f"{self.skill.folder.name}.old")
        try:
            if self.replaces:
                self.target.rename(old)
            try:
                self.skill.folder.rename(self.target)
            except OSError:
                if old.is_symlink() or old.exists():
                    old.rename(self.target)
                raise
        except OSError as error:
            raise StorageError(f"Cannot write {self.target}: {error.strerror}.") from error


@contextlib.contextmanager
def staged(source: str, library: SkillLibrary, allow_private: Sequence[str] = ()) -> Iterator[Staged]:
    """Fetch and check a skill into a folder that is gone afterwards, unless it was installed.

    Raises NanobotError when there is no usable skill.
    """
    name = Path(source.removeprefix("clawhub:").rstrip("/")).resolve().name
    try:
        library.folder.mkdir(parents=True, exist_ok=True)
        for left in library.folder.glob(".incoming-*"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                shutil.rmtree(left)
        place = TemporaryDirectory(prefix=".incoming-", dir=library.folder)
    except OSError as error:
        raise StorageError(f"Cannot write to {library.folder}: {error.strerror}.") from error
    with place as temporary:
        folder = fetch(source, Path(temporary) / "new" / name.removesuffix(".md"), allow_private)
        skill = load_skill(folder, "workspace", strict=True)
        if skill.fault:
            raise UsageError(f"This is no usable skill: {skill.fault}.")
        yield Staged(skill, preview(folder), library.folder / skill.name)


def remove(name: str, library: SkillLibrary) -> Path:
    """Delete a skill of the workspace with all that is noted about it; returns where it was.

    Raises UsageError if it is not there, StorageError if it cannot be deleted.
    """
    folders = {path.name: path for path in library.folder.iterdir()} if library.folder.is_dir() else {}
    folders |= {skill.name: skill.folder for skill in reversed(library.all()) if skill.source == "workspace"}
    target = folders.get(name)
    if target is None and (BUNDLED / name).is_dir() and name in library.names():
        other = f"A skill of this name in {library.folder} is used in its place."
        raise UsageError(f"The skill {name} came with nanobot and stays. {other}")
    if target is None:
        raise UsageError(f"There is no skill {name!r} in {library.folder}.")
    try:
        if target.is_symlink() or target.is_file():
            target.unlink()
        else:
            shutil.rmtree(target)
        for lock in _LOCK_FILES:
            _forget(name, library.folder.parent / lock)
    except OSError as error:
        raise StorageError(f"Cannot delete {target} as a whole: {error.strerror}.") from error
    return target


def _forget(name: str, lock: Path) -> None:
    """Take `name` out of a list that ClawHub's client keeps; an empty list goes too."""
    try:
        text = lock.read_bytes().decode()
        skills = loads(text, str(lock))["skills"]
        del skills[name]
    except (ConfigError, OSError, ValueError, KeyError, TypeError):
        return  # no list, or the skill is not in it
    if skills:
        write_atomic(lock, remove_key(text, "skills", name), mode=0o644)
        return
    lock.unlink()
    with contextlib.suppress(OSError):
        lock.parent.rmdir()
