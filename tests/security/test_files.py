"""The path resolver against the attacks A1 to A4."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.errors import AccessDenied, ToolError
from nanobot.security.files import PathPolicy

SECRET = b"the secret"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "workspace" / "notes").mkdir(parents=True)
    (home / "media").mkdir()
    (home / "workspace" / "a.txt").write_text("inside")
    (home / "media" / "voice.txt").write_text("heard")
    for name in ("config.json", "nanobot.db", "nanobot.db-wal", "logs/gateway.log", "history/cli_history"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(SECRET)
    (tmp_path / "outside.txt").write_bytes(SECRET)
    return home


def policy(home: Path, *, restrict: bool) -> PathPolicy:
    return PathPolicy(home / "workspace", restrict=restrict, private=(home,), readable=(home / "media",))


def read(paths: PathPolicy, path: str | Path) -> bytes:
    with paths.open_file(path) as file:
        return file.read()


@pytest.mark.parametrize("restrict", [True, False])
def test_relative_paths_resolve_in_the_workspace(home: Path, restrict: bool) -> None:
    paths = policy(home, restrict=restrict)
    assert read(paths, "a.txt") == b"inside"
    assert read(paths, "notes/../a.txt") == b"inside"
    assert read(paths, home / "workspace/a.txt") == b"inside"
    assert paths.replace_file("new/deep/b.txt", b"made") is False
    assert (home / "workspace/new/deep/b.txt").read_bytes() == b"made"


def test_a1_sibling_with_the_same_prefix(home: Path) -> None:
    evil = home / "workspace_evil"
    evil.mkdir()
    (evil / "x").write_bytes(SECRET)
    paths = policy(home, restrict=True)
    for spelling in (str(evil / "x"), "../workspace_evil/x", "notes/../../workspace_evil/x"):
        with pytest.raises(AccessDenied):
            paths.open_file(spelling)
        with pytest.raises(AccessDenied):
            paths.replace_file(spelling, b"")


def test_a2_everything_outside_is_refused_when_restricted(home: Path, tmp_path: Path) -> None:
    workspace = home / "workspace"
    (workspace / "file_link").symlink_to(tmp_path / "outside.txt")
    (workspace / "dir_link").symlink_to(tmp_path)
    (workspace / "dangling").symlink_to(tmp_path / "created.txt")
    os.link(tmp_path / "outside.txt", workspace / "hard_link")
    spellings = [
        "../../outside.txt",
        str(tmp_path / "outside.txt"),
        "~",
        "~root",
        "/etc/passwd",
        "/",
        "..",
        "file_link",
        "dir_link/outside.txt",
        "dir_link/new/deep.txt",
        "dangling",
        "hard_link",
    ]
    paths = policy(home, restrict=True)
    before = sorted(tmp_path.rglob("*"))
    for spelling in spellings:
        with pytest.raises(AccessDenied):
            paths.open_file(spelling)
        with pytest.raises(AccessDenied):
            paths.replace_file(spelling, b"overwritten")
    assert (tmp_path / "outside.txt").read_bytes() == SECRET
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(AccessDenied), paths.open_folder("dir_link"):
        pass
    with pytest.raises(AccessDenied):
        paths.working_dir("..")


def test_links_that_stay_inside_work_when_restricted(home: Path) -> None:
    workspace = home / "workspace"
    (workspace / "latest").symlink_to("a.txt")
    paths = policy(home, restrict=True)
    assert read(paths, "latest") == b"inside"
    assert paths.replace_file("latest", b"changed") is True
    assert (workspace / "latest").is_symlink()
    assert (workspace / "a.txt").read_bytes() == b"changed"


SWAPPER = """
import os, sys
os.chdir(sys.argv[1])
print("swapping", flush=True)
while True:
    os.rename("d", "folder"); os.rename("link_to_folder", "d")
    os.rename("d", "link_to_folder"); os.rename("folder", "d")
    os.symlink(sys.argv[2] + "/x", "t"); os.rename("t", "f")
    with open("t", "w") as file: file.write("mine")
    os.rename("t", "f")
"""


def test_a3_a_link_swapped_in_after_the_check_is_never_followed(home: Path, tmp_path: Path) -> None:
    """Another process turns a folder and a file into links and back while a tool reads and writes."""
    workspace, outside = home / "workspace", tmp_path / "outside"
    for folder, text in ((workspace / "d", b"mine"), (outside, SECRET)):
        folder.mkdir()
        (folder / "x").write_bytes(text)
    (workspace / "f").write_bytes(b"mine")
    (workspace / "link_to_folder").symlink_to(outside)
    paths = policy(home, restrict=True)
    seen = set()
    command = [sys.executable, "-c", SWAPPER, str(workspace), str(outside)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        assert swapper.stdout is not None
        swapper.stdout.readline()
        for name in ["d/x", "f"] * 3000:
            with contextlib.suppress(ToolError, OSError):
                seen.add(read(paths, name))
        for name in ["d/x", "f"] * 100:
            with contextlib.suppress(ToolError, OSError):
                paths.replace_file(name, b"mine")
        swapper.kill()
    assert seen == {b"mine"}
    assert (outside / "x").read_bytes() == SECRET
    assert [path.name for path in outside.iterdir()] == ["x"]


@pytest.mark.parametrize("restrict", [True, False])
def test_a4_nanobots_own_files_are_closed(home: Path, restrict: bool) -> None:
    workspace = home / "workspace"
    (workspace / "link").symlink_to(home / "config.json")
    (workspace / "folder").symlink_to(home)
    os.link(home / "config.json", workspace / "hard")
    paths = policy(home, restrict=restrict)
    spellings = [
        "../config.json",
        "../nanobot.db",
        "../nanobot.db-wal",
        "../logs/gateway.log",
        "..",
        "../history/cli_history",
        "../not_there_yet",
        str(home / "config.json"),
        "link",
        "hard",
        "folder/config.json",
        "/proc/self/root" + str(home / "config.json"),
    ]
    for spelling in spellings:
        with pytest.raises(AccessDenied):
            paths.open_file(spelling)
    for spelling in set(spellings) - {"hard"}:
        with pytest.raises(AccessDenied):
            paths.replace_file(spelling, b"")
    assert (home / "config.json").read_bytes() == SECRET
    assert not (home / "not_there_yet").exists()


def test_a4_an_open_descriptor_and_the_environment_of_a_process_are_closed(home: Path) -> None:
    paths = policy(home, restrict=False)
    with (home / "nanobot.db").open() as database:
        for path in ("/proc/self/environ", f"/proc/{os.getpid()}/environ", f"/dev/fd/{database.fileno()}"):
            with pytest.raises(AccessDenied):
                paths.open_file(path)


def test_a_private_folder_is_known_by_its_inode_when_the_name_differs(home: Path, tmp_path: Path) -> None:
    """File systems that ignore case give one folder many names; a renamed folder looks the same."""
    paths = policy(home, restrict=False)
    assert read(paths, home / "workspace/a.txt") == b"inside"
    marks = paths._marks()
    status = home.lstat()
    assert marks[status.st_dev, status.st_ino].value == "private"


def test_received_media_can_be_read_but_not_written(home: Path) -> None:
    for restrict in (True, False):
        paths = policy(home, restrict=restrict)
        assert read(paths, "../media/voice.txt") == b"heard"
        with pytest.raises(AccessDenied):
            paths.replace_file("../media/voice.txt", b"")


def test_a_readable_file_may_have_more_names_as_installers_give_them(home: Path, tmp_path: Path) -> None:
    os.link(home / "media/voice.txt", tmp_path / "cache")
    assert read(policy(home, restrict=True), "../media/voice.txt") == b"heard"


@pytest.mark.parametrize("restrict", [True, False])
def test_e1_skills_and_plugins_are_read_and_used_but_never_written(home: Path, restrict: bool) -> None:
    workspace = home / "workspace"
    (workspace / "skills/greet").mkdir(parents=True)
    (workspace / "skills/greet/SKILL.md").write_text("mine")
    (workspace / "link").symlink_to("skills/greet/SKILL.md")
    (workspace / "folder").symlink_to("skills")
    protected = (workspace / "skills", workspace / "tools")
    paths = PathPolicy(workspace, restrict=restrict, private=(home,), protected=protected)
    assert read(paths, "skills/greet/SKILL.md") == b"mine"
    assert paths.working_dir("skills/greet") == workspace / "skills/greet"
    with paths.open_folder("skills") as folder, os.scandir(folder) as entries:
        assert [entry.name for entry in entries] == ["greet"]
    spellings = [
        "skills/greet/SKILL.md",
        "notes/../skills/new/SKILL.md",
        "link",
        "folder/new/SKILL.md",
        "tools/evil.py",
        str(workspace / "tools/deep/evil.py"),
    ]
    for spelling in spellings:
        with pytest.raises(AccessDenied, match="drafts/"):
            paths.replace_file(spelling, b"evil")
    assert (workspace / "skills/greet/SKILL.md").read_text() == "mine"
    assert list((workspace / "skills").iterdir()) == [workspace / "skills/greet"]
    assert not (workspace / "tools").exists()
    assert paths.replace_file("skills_of_mine/a.txt", b"fine") is False


def test_a_skill_that_the_owner_linked_is_not_written_by_its_name(home: Path, tmp_path: Path) -> None:
    mine, skills = tmp_path / "dotfiles/greet", home / "workspace/skills"
    mine.mkdir(parents=True)
    (mine / "SKILL.md").write_text("mine")
    skills.mkdir()
    (skills / "greet").symlink_to(mine)
    paths = PathPolicy(home / "workspace", restrict=False, protected=(skills,))
    for name in ("skills/greet/SKILL.md", "notes/../skills/greet/new.md", skills / "greet/SKILL.md"):
        with pytest.raises(AccessDenied, match="only the owner changes skills"):
            paths.replace_file(name, b"another's")
    assert read(paths, "skills/greet/SKILL.md") == b"mine"
    assert [file.name for file in mine.iterdir()] == ["SKILL.md"]


def test_a_protected_folder_that_the_owner_linked_is_protected_where_it_is(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "dotfiles").mkdir()
    (home / "workspace/skills").symlink_to(tmp_path / "dotfiles")
    paths = PathPolicy(home / "workspace", restrict=False, protected=(home / "workspace/skills",))
    for spelling in ("skills/new/SKILL.md", tmp_path / "dotfiles/new/SKILL.md"):
        with pytest.raises(AccessDenied):
            paths.replace_file(spelling, b"")


@pytest.mark.parametrize("path", [".", "../media"])
def test_an_open_folder_in_a_closed_one_is_a_folder_not_a_secret(home: Path, path: str) -> None:
    with pytest.raises(IsADirectoryError):
        policy(home, restrict=False).open_file(path)


def test_a_workspace_that_is_nanobots_own_folder_stays_closed(home: Path) -> None:
    paths = PathPolicy(home, restrict=False, private=(home,))
    with pytest.raises(AccessDenied):
        paths.open_file("config.json")


def test_unrestricted_reaches_the_rest_of_the_disk(home: Path, tmp_path: Path) -> None:
    paths = policy(home, restrict=False)
    assert read(paths, tmp_path / "outside.txt") == SECRET
    (home / "workspace/link").symlink_to(tmp_path / "outside.txt")
    assert paths.replace_file("link", b"changed") is True
    assert (home / "workspace/link").is_symlink()
    assert (tmp_path / "outside.txt").read_bytes() == b"changed"


def test_replacing_keeps_the_mode_and_leaves_no_temporary_file(home: Path) -> None:
    script = home / "workspace/run.sh"
    script.write_text("echo 1")
    script.chmod(0o750)
    paths = policy(home, restrict=True)
    paths.replace_file("run.sh", b"echo 2")
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    assert sorted(path.name for path in (home / "workspace").iterdir()) == ["a.txt", "notes", "run.sh"]
    with pytest.raises(IsADirectoryError):
        paths.replace_file("notes", b"")
    assert sorted(path.name for path in (home / "workspace").iterdir()) == ["a.txt", "notes", "run.sh"]


def test_special_files_are_refused_without_blocking(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = policy(home, restrict=False)
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for path in ("pipe", "socket"):
            with pytest.raises(ToolError, match="pipe or socket"):
                paths.open_file(tmp_path / path)
            with pytest.raises(ToolError, match="pipe or socket"):
                paths.replace_file(tmp_path / path, b"")
    with pytest.raises(ToolError, match="device"):
        paths.open_file("/dev/zero")


@pytest.mark.parametrize("path", ["", "  ", "a\0b", "\ud800"])
def test_what_cannot_be_a_path_is_an_error_for_the_model(home: Path, path: str) -> None:
    with pytest.raises(ToolError):
        policy(home, restrict=True).open_file(path)


def test_link_loops_and_endless_names_fail_cleanly(home: Path) -> None:
    (home / "workspace/loop").symlink_to("loop")
    paths = policy(home, restrict=True)
    for path in ("loop", "loop/x", "n" * 5000, "a/" * 3000):
        with pytest.raises((ToolError, OSError)):
            paths.open_file(path)


PIECES = st.sampled_from(
    [
        "..",
        ".",
        "",
        "a.txt",
        "notes",
        "up",
        "out",
        "abs",
        "hard",
        "ws_evil",
        "ws",
        "secret",
        "x",
        "~",
        "...",
        " ",
        "C:\\",
    ]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    pieces=st.lists(PIECES, min_size=1, max_size=8),
    start=st.sampled_from(["", "/", "ROOT/", "ROOT/ws/", "~/"]),
)
def test_no_spelling_reads_or_writes_a_byte_outside(tmp_path: Path, pieces: list[str], start: str) -> None:
    root = tmp_path.resolve()
    workspace = root / "ws"
    if not workspace.exists():
        (workspace / "notes").mkdir(parents=True)
        (root / "ws_evil").mkdir()
        for path in (root / "secret", root / "x", root / "ws_evil/a.txt", root / "ws_evil/secret"):
            path.write_bytes(SECRET)
        (workspace / "up").symlink_to("..")
        (workspace / "out").symlink_to(root / "ws_evil")
        (workspace / "abs").symlink_to(root / "secret")
        (workspace / "notes/x").symlink_to("../../x")
        os.link(root / "secret", workspace / "hard")
    paths = PathPolicy(workspace, restrict=True)
    spelling = start.replace("ROOT", str(root)) + "/".join(pieces)
    with contextlib.suppress(ToolError, OSError):
        assert read(paths, spelling) != SECRET
    with contextlib.suppress(ToolError, OSError):
        paths.replace_file(spelling, b"written by a tool")
        assert paths.resolve(spelling).is_relative_to(workspace)
    outside = {
        path: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and workspace not in path.parents
    }
    assert set(outside.values()) == {SECRET}
    assert len(outside) == 4
