"""Finding skills: shadowing, faults that are told, requirements and how to meet them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.errors import UsageError
from nanobot.skills.install import remove
from nanobot.skills.library import BUNDLED, SkillLibrary
from nanobot.skills.skill import SKILL_BYTES, Missing, Skill, load_skill, missing
from tests.skills.folders import BODY, skill_text, write_skill

OLDER = '{"emoji": "x", "always": true, "requires": {"bins": ["a", "b"], "env": ["K"]}}'
NAMES = ["clawhub", "cron", "github", "memory", "skill-creator", "summarize", "tmux", "weather"]


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    return tmp_path / "skills"


def test_the_bundled_skills_are_there_and_short(tmp_path: Path) -> None:
    library = SkillLibrary(tmp_path)
    assert library.names() == NAMES
    for skill in library.all():
        assert skill.fault == ""
        assert len(skill.description) <= 80
        assert len(library.text(skill.name)) < 4500


def test_a_skill_of_the_workspace_shadows_a_bundled_one(tmp_path: Path, skills: Path) -> None:
    write_skill(skills, "weather", "Mine.", body="My weather.")
    write_skill(skills, "alpha")
    library = SkillLibrary(tmp_path)
    assert library.names() == ["alpha", "weather", *NAMES[:-1]]
    assert library.text("weather") == "My weather."
    assert library.get("weather").source == "workspace"


def test_a_faulty_skill_shadows_nothing(tmp_path: Path, skills: Path) -> None:
    (write_skill(skills, "weather") / "SKILL.md").write_bytes(b"\xff")
    library = SkillLibrary(tmp_path)
    assert library.get("weather").source == "bundled"
    assert library.all()[0].fault == "SKILL.md is not UTF-8 text"


def test_changes_are_noticed(tmp_path: Path, skills: Path) -> None:
    library = SkillLibrary(tmp_path)
    write_skill(skills, "greet", "First.")
    assert library.get("greet").description == "First."
    assert library.get("greet") is library.get("greet")
    write_skill(skills, "greet", "The second.")
    assert library.get("greet").description == "The second."
    (skills / "greet/SKILL.md").unlink()
    with pytest.raises(UsageError, match=r"does not exist\. There are: clawhub, cron"):
        library.get("greet")


ODD = [
    ("greet", "# No front matter\nmore", "does not begin with front matter", "No front matter"),
    ("greet", "---\nname: greet\ndescription: Says hi\n\nText", "does not begin with", "Says hi"),
    ("greet", skill_text("other"), "its name other is not that of its folder, greet", "Does things."),
    ("Greet_Me", skill_text("Greet_Me"), "lowercase letters", "Does things."),
    ("greet--you", skill_text("greet--you"), "lowercase letters", "Does things."),
    ("Grüße an alle", skill_text("Grüße an alle"), "lowercase letters", "Does things."),
    ("g" * 65, skill_text("g" * 65), "at most 64 characters", "Does things."),
    ("greet", skill_text("greet", ""), "no description", "Steps"),
    ("greet", skill_text("greet", "x" * 1025), "description is longer than 1,024", "x" * 1024),
    ("greet", "---\nname: [greet\ndescription: 'Hi'\n---\nText", "not valid YAML", "Hi"),
    ("greet", "---\nname:\tgreet\ndescription:Hi\n---\nText", "front matter", "Hi"),
    ("greet", "---\n- a\n---\n", "not a list of `key: value` lines", "greet"),
    ("greet", f"---\nname: greet\nx: {'y' * 20_000}\n---\nText", "longer than", ""),
    ("greet", "", "does not begin with front matter", "greet"),
]


@pytest.mark.parametrize(("name", "text", "why", "description"), ODD)
def test_an_owner_s_odd_skill_is_used_and_a_stranger_s_is_not(
    tmp_path: Path, skills: Path, name: str, text: str, why: str, description: str
) -> None:
    (skills / name).mkdir(parents=True)
    (skills / name / "SKILL.md").write_text(text, encoding="utf-8")
    library = SkillLibrary(tmp_path)
    skill = library.get(name)
    assert skill.description.startswith(description)
    assert skill.fault == ""
    assert why in "; ".join(skill.odd)
    assert library.text(name) in text
    assert library.complaint() == f"Skills used, but odd: {name}. `nanobot skills list` says why."
    if name != "greet" or "its name other" not in why:  # a stranger's folder has no name of its own
        assert load_skill(skills / name, "workspace", strict=True).fault


def test_spellings_and_places_of_an_older_home(tmp_path: Path, skills: Path) -> None:
    write_skill(skills, "lower").joinpath("SKILL.md").rename(skills / "lower/skill.md")
    write_skill(skills / "group/more", "inner")
    write_skill(skills / "a/b/c", "too-deep")
    write_skill(skills, "outer")
    write_skill(skills / "outer", "part")  # belongs to the skill around it
    write_skill(skills, "_private")
    write_skill(skills, ".hidden")
    (skills / "linked").symlink_to(skills / "group")
    library = SkillLibrary(tmp_path)
    found = {skill.name: skill.file for skill in library.all() if skill.source == "workspace"}
    assert found == {
        "_private": skills / "_private/SKILL.md",
        "inner": skills / "group/more/inner/SKILL.md",
        "lower": skills / "lower/skill.md",
        "outer": skills / "outer/SKILL.md",
    }
    assert library.get("lower").odd == ("its file is called skill.md, not SKILL.md",)
    assert library.text("lower") == BODY
    for name in ("lower", "inner", "linked"):
        remove(name, library)
    assert not (skills / "group/more/inner").exists()
    assert (skills / "group").exists()
    assert "inner" not in library.names()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    folder=st.sampled_from(["stock_report", "Stock Report", "stock.report", "股票", "x"]),
    file=st.sampled_from(["SKILL.md", "skill.md", "Skill.MD"]),
    start=st.sampled_from(["", "\ufeff", "\n\n", "\ufeff\n"]),
    lines=st.lists(
        st.sampled_from(
            [
                "name: other",
                "description: d: e",
                "always: true",
                "bad: [",
                "\tx",
                "- y",
                "---",
                "",
                "emoji: 📈",
            ]
        ),
        max_size=5,
    ),
    closing=st.sampled_from(["---", "", "...", "----"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_no_spelling_loses_a_skill_or_its_words(
    tmp_path: Path, folder: str, file: str, start: str, lines: list[str], closing: str, line_end: str
) -> None:
    place = tmp_path / "skills" / folder
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    text = start + line_end.join(["---", *lines, closing, "", "Buy low, sell high."])
    (place / file).write_text(text, encoding="utf-8", newline="")
    library = SkillLibrary(tmp_path)
    assert library.get(folder).description
    assert library.text(folder).endswith("Buy low, sell high.")


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"x" * (SKILL_BYTES + 1), "larger than"), ("# Größe".encode("latin-1"), "not UTF-8")],
)
def test_what_is_wrong_is_told(tmp_path: Path, skills: Path, content: bytes, fault: str) -> None:
    (skills / "greet").mkdir(parents=True)
    (skills / "greet/SKILL.md").write_bytes(content)
    library = SkillLibrary(tmp_path)
    assert fault in library.all()[0].fault
    assert library.names() == NAMES
    assert library.complaint() == "Skills cannot be used: greet. `nanobot skills list` says why."
    with pytest.raises(UsageError, match="'greet' cannot be used"):
        library.text("greet")


def test_odd_files_are_faults_too(tmp_path: Path, skills: Path) -> None:
    for name in ("bytes", "folder", "link", "pipe", "empty"):
        (skills / name).mkdir(parents=True)
    (skills / "bytes/SKILL.md").write_bytes(b"---\nname: \xff\n---\n")
    (skills / "folder/SKILL.md").mkdir()
    (skills / "link/SKILL.md").symlink_to("/etc/hostname")
    os.mkfifo(skills / "pipe/SKILL.md")
    (skills / "a-file").write_text("")
    (skills / "loop").symlink_to("loop")
    (skills / "nowhere").symlink_to("/no/such/folder")
    faults = {skill.name: skill.fault for skill in SkillLibrary(tmp_path).all() if skill.fault}
    assert sorted(faults) == ["bytes", "folder", "link", "loop", "nowhere", "pipe"]
    assert "UTF-8" in faults["bytes"]
    assert all("not a regular file" in faults[name] for name in ("folder", "link", "pipe"))


def declared(tmp_path: Path, *lines: str) -> Skill:
    skill = load_skill(write_skill(tmp_path, "greet", "Does things.", *lines), "workspace")
    assert skill.fault == ""
    return skill


@pytest.mark.parametrize(
    "lines",
    [
        f'metadata: {{"nanobot": {OLDER}}}',
        f'metadata: {{"openclaw": {OLDER}}}',
        f"metadata: '{{\"clawdbot\": {OLDER}}}'",
        "always: true\nmetadata:\n  nanobot:\n    requires:\n      bins: [a, b]\n      env:\n        - K",
        "always: true\nmetadata:\n  author: me\nrequires:\n  bins: a, b\n  env: [K]",
    ],
)
def test_requirements_in_every_spelling(tmp_path: Path, lines: str) -> None:
    skill = declared(tmp_path, lines)
    assert skill.always
    assert (skill.requires.bins, skill.requires.env) == (("a", "b"), ("K",))


def test_all_other_fields(tmp_path: Path) -> None:
    skill = declared(
        tmp_path,
        "license: MIT",
        "compatibility: Needs a network",
        "homepage: https://example.com",
        "allowed-tools: exec web_fetch",
        'metadata: {"nanobot": {"requires": {"anyBins": ["x", "y"]}, "os": ["darwin", "linux"], "install": '
        '[{"kind": "brew", "formula": "x"}, {"kind": "apt", "package": "x; rm -rf /"}, {"kind": "?"}, 3]}}',
    )
    assert (skill.license, skill.compatibility) == ("MIT", "Needs a network")
    assert skill.homepage == "https://example.com"
    assert skill.allowed_tools == ("exec", "web_fetch")
    assert skill.requires.any_bins == ("x", "y")
    assert skill.requires.os == ("macos", "linux")
    assert skill.install == ("brew install x",)


def test_a_missing_name_is_that_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "greet").mkdir()
    (tmp_path / "greet/SKILL.md").write_text("---\ndescription: Hi.\n---\n")
    assert load_skill(tmp_path / "greet", "workspace").name == "greet"


def test_unmet_requirements_say_how_to_meet_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_KEY", "secret")
    monkeypatch.delenv("UNSET_KEY", raising=False)
    other = "linux" if sys.platform == "darwin" else "macos"
    skill = declared(
        tmp_path,
        'metadata: {"nanobot": {"requires": {"bins": ["sh", "no-such-program"], "anyBins": ["no-a", "no-b"], '
        f'"env": ["SET_KEY", "UNSET_KEY"]}}, "os": ["{other}"]}}}}',
    )
    found = {item.what: item.fix for item in missing(skill)}
    assert list(found) == ["no-such-program", "no-a or no-b", "$SET_KEY for commands", "$UNSET_KEY", other]
    assert found["no-such-program"] == "Install no-such-program so that it is on PATH."
    assert '"SET_KEY" to tools.exec.env' in found["$SET_KEY for commands"]
    assert "export UNSET_KEY=" in found["$UNSET_KEY"]
    assert '"UNSET_KEY" to tools.exec.env' in found["$UNSET_KEY"]
    assert f"{other} only" in found[other]
    assert "secret" not in str(found)
    assert [item.what for item in missing(skill, ["SET_KEY"])][2:] == ["$UNSET_KEY", other]
    assert missing(skill, has_exec=False)[0] == Missing(
        "the exec tool", "Set tools.exec.enabled to true in config.json: it runs programs."
    )


def test_the_install_hints_of_a_skill_are_passed_on(tmp_path: Path) -> None:
    skill = declared(
        tmp_path,
        'metadata: {"nanobot": {"requires": {"bins": ["no-such-program"]}, "install": '
        '[{"kind": "npm", "package": "@x/y"}, {"kind": "pip", "package": "z"}]}}',
    )
    (only,) = missing(skill)
    assert only.fix == "The skill proposes: `npm install -g @x/y` or `pip install z`."


def test_one_of_any_bins_is_enough(tmp_path: Path) -> None:
    assert (
        missing(declared(tmp_path, 'metadata: {"nanobot": {"requires": {"anyBins": ["no-a", "sh"]}}}')) == []
    )


def test_the_bundled_skills_are_part_of_the_package() -> None:
    assert {path.parent.name for path in BUNDLED.glob("*/SKILL.md")} == set(NAMES)
