"""What the system prompt says about skills: a list within a byte budget, and in full those wanted always."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanobot.errors import UsageError
from nanobot.messages import InboundMessage
from nanobot.skills.library import BUNDLED, SkillLibrary
from nanobot.skills.skill import SKILL_FILE, Skill

_SHORTER = (1024, 200, 80, 40)  # characters of a description, tried in turn until the list fits
_HEAD = (
    "[skills] The owner's instructions for kinds of tasks. When one fits, or a message begins with its /NAME,"
    " first read it with read_file: "
)
_LACKING = " [needs …]: not usable yet; `nanobot skills show NAME` tells the owner what to do."


@dataclass(frozen=True)
class SkillsSection:
    """A PromptSection. `list_bytes` bound the list of skills, `always_bytes` the skills shown in full."""

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
