"""Installing from every source, refusing what is dangerous, removing without a trace."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.errors import NanobotError, StorageError, UsageError
from nanobot.skills import sources
from nanobot.skills.install import remove, staged
from nanobot.skills.library import SkillLibrary
from tests.skills.folders import skill_text, write_skill


@pytest.fixture
def library(tmp_path: Path) -> SkillLibrary:
    return SkillLibrary(tmp_path / "workspace")


def install(source: str | Path, library: SkillLibrary, *allow_private: str) -> Path:
    with staged(str(source), library, allow_private) as new:
        new.install()
        return new.target


def zipped(path: Path, members: dict[str, str | bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            archive.writestr(info, data)
    return path


def tarred(
    path: Path, members: dict[str, str | bytes], change: Callable[[tarfile.TarInfo], object] = id
) -> Path:
    with tarfile.open(path, f"w:{path.suffix.removeprefix('.').replace('tar', '')}") as archive:
        for name, text in members.items():
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(data)
            change(info)
            archive.addfile(info, io.BytesIO(data) if info.isfile() else None)
    return path


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def nothing_is_left(library: SkillLibrary) -> bool:
    return list(library.folder.iterdir()) == []


# -- sources


def test_a_folder(tmp_path: Path, library: SkillLibrary) -> None:
    source = write_skill(tmp_path / "drafts", "greet")
    (source / "scripts").mkdir()
    (source / "scripts/run.sh").write_text("#!/bin/sh\ntouch /tmp/never")
    (source / "scripts/run.sh").chmod(0o755)
    for noise in (".git/config", "__pycache__/x.pyc", ".clawhub/origin.json"):
        (source / noise).parent.mkdir()
        (source / noise).write_text("")
    target = install(source, library)
    assert target == library.folder / "greet"
    assert files_in(library.folder) == {"greet/SKILL.md", "greet/scripts/run.sh"}
    assert stat.S_IMODE((target / "scripts/run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "SKILL.md").stat().st_mode) == 0o644
    assert library.text("greet") == "# Steps\n\nDo it well."


def test_a_folder_of_another_name_takes_that_of_its_skill(tmp_path: Path, library: SkillLibrary) -> None:
    source = write_skill(tmp_path, "greet").rename(tmp_path / "greet-main")
    assert install(source, library).name == "greet"
    assert library.get("greet").fault == ""


def test_a_single_file_also_spelled_in_lower_case(tmp_path: Path, library: SkillLibrary) -> None:
    (tmp_path / "skill.md").write_text("\ufeff" + skill_text("greet"))
    assert files_in(install(tmp_path / "skill.md", library)) == {"SKILL.md"}
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower/skill.md").write_text(skill_text("lower"))
    assert files_in(install(tmp_path / "lower", library)) == {"SKILL.md"}


def test_a_skill_without_a_name_takes_that_of_its_folder(tmp_path: Path, library: SkillLibrary) -> None:
    (tmp_path / "greet").mkdir()
    (tmp_path / "greet/SKILL.md").write_text("---\ndescription: Hi.\n---\n")
    assert install(tmp_path / "greet", library).name == "greet"


@pytest.mark.parametrize("name", ["s.zip", "s.tar", "s.tar.gz", "s.tar.bz2", "s.tar.xz"])
def test_archives(tmp_path: Path, library: SkillLibrary, name: str) -> None:
    members: dict[str, str | bytes] = {
        "repo-main/README.md": "not part of it",
        "repo-main/greet/SKILL.md": skill_text("greet"),
        "repo-main/greet/a/b.txt": "x",
    }
    pack = zipped if name == "s.zip" else tarred
    assert files_in(install(pack(tmp_path / name, members), library)) == {"SKILL.md", "a/b.txt"}


def test_an_archive_with_the_skill_at_its_top(tmp_path: Path, library: SkillLibrary) -> None:
    members: dict[str, str | bytes] = {"SKILL.md": skill_text("greet"), "examples/other/SKILL.md": "x"}
    assert files_in(install(zipped(tmp_path / "s.zip", members), library)) == {*members}


def test_an_installed_skill_is_replaced_as_a_whole(tmp_path: Path, library: SkillLibrary) -> None:
    old = write_skill(library.folder, "greet", "Old.")
    (old / "leftover.txt").write_text("")
    source = write_skill(tmp_path, "greet", "New.")
    with staged(str(source), library) as new:
        assert new.replaces
        new.install()
    assert library.get("greet").description == "New."
    assert files_in(library.folder) == {"greet/SKILL.md"}


def test_what_is_not_wanted_leaves_nothing_behind(tmp_path: Path, library: SkillLibrary) -> None:
    with staged(str(write_skill(tmp_path, "greet")), library) as new:
        assert not new.replaces
        assert library.names()[0] == "clawhub"
    assert nothing_is_left(library)


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, library: SkillLibrary) -> None:
    for name in (".incoming-old", ".incoming-new"):
        (library.folder / name / "new").mkdir(parents=True)
    os.utime(library.folder / ".incoming-old", (0, 0))
    install(write_skill(tmp_path, "greet"), library)
    assert sorted(path.name for path in library.folder.iterdir()) == [".incoming-new", "greet"]


# -- refusals


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "..", "a\\..\\evil", "C:evil", "a\nb", "x\u202ey"],
)
def test_a5_names_that_lead_elsewhere(tmp_path: Path, library: SkillLibrary, name: str) -> None:
    members: dict[str, str | bytes] = {"SKILL.md": skill_text("greet"), name: "evil"}
    before = sorted(tmp_path.rglob("*"))
    for pack, path in ((zipped, tmp_path / "s.zip"), (tarred, tmp_path / "s.tar.gz")):
        with pytest.raises(UsageError, match=r"dangerous name|cannot be copied"):
            install(pack(path, members), library)
        path.unlink()
    library.folder.rmdir()
    library.folder.parent.rmdir()
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_devices(tmp_path: Path, library: SkillLibrary) -> None:
    members: dict[str, str | bytes] = {"SKILL.md": skill_text("greet"), "x": "/etc/passwd"}

    def becomes(kind: bytes) -> Callable[[tarfile.TarInfo], object]:
        return lambda info: (
            info.name == "x" and (setattr(info, "type", kind), setattr(info, "linkname", "/etc/passwd"))
        )

    archives = [zipped(tmp_path / "link.zip", members, {"x": 0o120777})]
    for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
        archives.append(tarred(tmp_path / f"{number}.tar", members, becomes(kind)))
    folder = write_skill(tmp_path, "greet")
    (folder / "x").symlink_to("/etc/passwd")
    linked = write_skill(tmp_path, "linked")
    (linked / "x").symlink_to("/etc")
    piped = write_skill(tmp_path, "piped")
    os.mkfifo(piped / "x")
    for source in [*archives, folder, linked, piped]:
        with pytest.raises(UsageError, match="link"):
            install(source, library)
    assert nothing_is_left(library)


def test_bombs(tmp_path: Path, library: SkillLibrary) -> None:
    big = b"\0" * (sources.MAX_BYTES + 1)
    many: dict[str, str | bytes] = {f"{number}": "" for number in range(sources.MAX_FILES + 1)}
    packed = tmp_path / "bomb.gz"
    with gzip.open(packed, "wb", 1) as file:
        for _ in range(10):
            file.write(big)
    bombs = [
        (zipped(tmp_path / "a.zip", {"SKILL.md": skill_text("greet"), "x": big}), "larger than 20 MB"),
        (tarred(tmp_path / "b.tar.gz", {"SKILL.md": skill_text("greet"), "x": big}), "larger than 20 MB"),
        (zipped(tmp_path / "c.zip", many), "more than 300 files"),
        (tarred(tmp_path / "d.tar.gz", many), "more than 300 files"),
        (packed, "larger than 20 MB"),
    ]
    for source, told in bombs:
        with pytest.raises(UsageError, match=told):
            install(source, library)
    assert nothing_is_left(library)


def test_a_huge_header_in_an_archive_is_not_read(tmp_path: Path, library: SkillLibrary) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 10**12
    (tmp_path / "s.tar.bz2").write_bytes(bz2.compress(header.tobuf() + b"\0" * 50_000_000))
    with pytest.raises(UsageError, match=r"damaged or locked|no skill"):
        install(tmp_path / "s.tar.bz2", library)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "neither a SKILL.md"),
        (b"<!doctype html><title>x</title>", "neither a SKILL.md"),
        (b"PK\x03\x04 broken", "damaged"),
        (b"\x1f\x8b broken", "damaged|cannot be copied: .*: (?!None)"),
        (b"---\nname: greet\n---\n", "no description"),
        (b"---\nname: A B\ndescription: x\n---\n", "lowercase letters"),
        (b"---\nname: ../evil\ndescription: x\n---\n", "lowercase letters"),
    ],
)
def test_what_is_no_skill(tmp_path: Path, library: SkillLibrary, data: bytes, told: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UsageError, match=told):
        install(tmp_path / "file", library)
    assert nothing_is_left(library)


def test_folders_without_or_with_several_skills(tmp_path: Path, library: SkillLibrary) -> None:
    (tmp_path / "many").mkdir()
    with pytest.raises(UsageError, match=r"No SKILL\.md"):
        install(tmp_path / "many", library)
    for name in ("one", "two"):
        write_skill(tmp_path / "many", name)
    with pytest.raises(UsageError, match=r"several skills in it \(one, two\)"):
        install(tmp_path / "many", library)
    with pytest.raises(UsageError, match="no file or folder"):
        install(tmp_path / "nowhere", library)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"BZh9", b"---\n"]),
)
def test_any_bytes_are_refused_in_words(
    tmp_path: Path, library: SkillLibrary, data: bytes, start: bytes
) -> None:
    (tmp_path / "file").write_bytes(start + data)
    with pytest.raises(NanobotError):
        install(tmp_path / "file", library)
    assert nothing_is_left(library)


def test_a_workspace_that_cannot_be_written(tmp_path: Path, library: SkillLibrary) -> None:
    library.folder.parent.mkdir()
    library.folder.write_text("a file")
    with pytest.raises(StorageError, match="Cannot write to"):
        install(write_skill(tmp_path, "greet"), library)


# -- removal


def test_removing_leaves_nothing_behind(tmp_path: Path, library: SkillLibrary) -> None:
    install(write_skill(tmp_path, "greet"), library)
    for place in (".clawhub", "skills/.clawdhub"):
        (library.folder.parent / place).mkdir()
        (library.folder.parent / place / "lock.json").write_text('{"version": 1, "skills": {"greet": {}}}')
    assert remove("greet", library) == library.folder / "greet"
    assert files_in(library.folder.parent) == set()
    assert nothing_is_left(library)
    assert "greet" not in library.names()


def test_what_clawhub_notes_about_others_stays(library: SkillLibrary) -> None:
    write_skill(library.folder, "greet")
    lock = library.folder.parent / ".clawhub/lock.json"
    lock.parent.mkdir()
    head, others = '{\r\n\t"version": 1.0,\r\n\t"skills": {', '\r\n\t\t"é": {"at": 1.50}\r\n\t}\r\n}'
    lock.write_bytes(f'{head}\r\n\t\t"greet": {{}},{others}'.encode())
    remove("greet", library)
    assert lock.read_bytes().decode() == head + others, "all else byte for byte"
    for unusable in ("broken", '{"skills": {"greet": {}, "greet": {"at": 1}}}'):
        write_skill(library.folder, "greet")
        lock.write_text(unusable)
        remove("greet", library)
        assert lock.read_text() == unusable


def test_a_linked_skill_is_unlinked_and_a_faulty_one_deleted(tmp_path: Path, library: SkillLibrary) -> None:
    mine = write_skill(tmp_path / "dotfiles", "greet")
    library.folder.mkdir(parents=True)
    (library.folder / "greet").symlink_to(mine)
    (library.folder / "faulty").mkdir()
    assert library.get("greet").source == "workspace"
    remove("greet", library)
    remove("faulty", library)
    assert nothing_is_left(library)
    assert (mine / "SKILL.md").exists()


@pytest.mark.parametrize("name", ["weather", "", ".", "..", "../skills", "nope", "/etc"])
def test_only_what_is_there_is_removed(library: SkillLibrary, name: str) -> None:
    write_skill(library.folder, "greet")
    with pytest.raises(UsageError, match="came with nanobot" if name == "weather" else "There is no skill"):
        remove(name, library)
    assert library.names()[0] == "greet"
