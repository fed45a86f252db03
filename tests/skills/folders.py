"""Writing skills for tests."""

from __future__ import annotations

from pathlib import Path

BODY = "# Steps\n\nDo it well."


def skill_text(name: str, description: str = "Does things.", *lines: str, body: str = BODY) -> str:
    return "\n".join(["---", f"name: {name}", f"description: {description}", *lines, "---", "", body, ""])


def write_skill(
    root: Path, name: str, description: str = "Does things.", *lines: str, body: str = BODY
) -> Path:
    """A skill in `root`/`name`; `lines` are added to its front matter."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SKILL.md").write_text(skill_text(name, description, *lines, body=body), encoding="utf-8")
    return folder
