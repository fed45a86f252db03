"""read_file, write_file, edit_file and list_dir on real files."""

import base64
import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.agent.tools import Tool, ToolOutput, tool_surroundings
from nanobot.errors import AccessDenied, ToolError
from nanobot.messages import ImagePart
from nanobot.security.files import PathPolicy
from nanobot.tools.filesystem import EditFile, ListDir, ReadFile, WriteFile, file_tools
from nanobot.tools.text_edit import near_miss
from tests.talk import turn_in

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "home/workspace"
    folder.mkdir(parents=True)
    (tmp_path / "home/config.json").write_text('{"apiKey": "sk-1"}')
    return folder


@pytest.fixture
def paths(workspace: Path) -> PathPolicy:
    return PathPolicy(workspace, restrict=False, private=(workspace.parent,))


async def run(tool: Tool, **arguments: object) -> str:
    output = await tool.execute(**arguments)
    return output.text if isinstance(output, ToolOutput) else output


async def failure(tool: Tool, **arguments: object) -> str:
    with pytest.raises(ToolError) as caught:
        await tool.execute(**arguments)
    return str(caught.value)


async def test_a_small_file_is_given_as_it_is(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "a.txt").write_text("one\ntwo\n")
    assert await run(ReadFile(paths), path="a.txt") == "one\ntwo"


async def test_pages_say_what_is_missing_and_how_to_go_on(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "a.txt").write_text("".join(f"line {n}\n" for n in range(1, 5322)))
    first = (await run(ReadFile(paths), path="a.txt")).splitlines()
    assert first[0] == "line 1"
    assert first[-2:] == ["line 2000", "[lines 1-2000 of 5321; continue with offset=2001]"]
    last = (await run(ReadFile(paths), path="a.txt", offset=4001)).splitlines()
    assert (last[0], last[-1]) == ("line 4001", "[lines 4001-5321 of 5321]")
    some = await run(ReadFile(paths), path="a.txt", offset=10, limit=2)
    assert some == "line 10\nline 11\n[lines 10-11 of 5321; continue with offset=12]"
    assert "only 5321 lines" in await failure(ReadFile(paths), path="a.txt", offset=6000)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.lists(st.text("aß€😀 \t", max_size=12), min_size=1, max_size=30), limit=st.integers(1, 12))
async def test_pages_put_together_are_the_file(
    workspace: Path, paths: PathPolicy, lines: list[str], limit: int
) -> None:
    (workspace / "p.txt").write_text("\n".join(lines) + "\n")
    read, offset = [], 1
    while offset <= len(lines):
        page = (await run(ReadFile(paths), path="p.txt", offset=offset, limit=limit)).split("\n")
        read += page[: min(limit, len(lines) - offset + 1)]
        offset += limit
    assert read == lines


async def test_a_200_mb_file_costs_little_memory(workspace: Path, paths: PathPolicy) -> None:
    with (workspace / "big.log").open("wb") as file:
        file.write(b"first\n")
        file.truncate(200_000_000)
        file.seek(0)
        file.write(b"a line of this log\n" * 500_000)
    tracemalloc.start()
    try:
        text = await run(ReadFile(paths), path="big.log", offset=400_000, limit=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert text.endswith("[lines 400000-400001 of a 200.0 MB file; continue with offset=400002]")
    assert peak < 8_000_000


async def test_one_endless_line_is_cut_with_a_note(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "min.js").write_text("x" * 300_000 + "\nnext\n")
    text = await run(ReadFile(paths), path="min.js")
    assert len(text) < 11_000
    assert "[… 290000 more bytes in this line]\nnext" in text
    assert "1 long lines were cut" in text


async def test_pages_end_by_characters_too(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "wide.txt").write_text(("y" * 5000 + "\n") * 100)
    text = await run(ReadFile(paths), path="wide.txt")
    assert len(text) < 51_000
    assert text.endswith("[lines 1-8 of 100; continue with offset=9]")


async def test_text_in_other_coats(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "bom.txt").write_bytes(b"\xef\xbb\xbfhello\r\nworld\r\n")
    assert await run(ReadFile(paths), path="bom.txt") == "hello\nworld"
    (workspace / "utf16.txt").write_bytes("grüße\n".encode("utf-16"))
    assert await run(ReadFile(paths), path="utf16.txt") == "grüße"
    (workspace / "latin.txt").write_bytes("grüße".encode("latin-1"))
    text = await run(ReadFile(paths), path="latin.txt")
    assert text.startswith("gr\ufffd\ufffde\n") or text.startswith("gr\ufffd")
    assert "not valid UTF-8" in text
    (workspace / "empty.txt").touch()
    assert await run(ReadFile(paths), path="empty.txt") == "[empty.txt is empty]"


async def test_binaries_are_refused_kindly(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "a.pdf").write_bytes(b"%PDF-1.7 " + b"x" * 3000)
    (workspace / "a.bin").write_bytes(b"\0\1\2" * 1000)
    assert "PDF document" in await failure(ReadFile(paths), path="a.pdf")
    message = await failure(ReadFile(paths), path="a.bin")
    assert "3.0 kB" in message
    assert "strings" in message
    assert "binary" in await failure(EditFile(paths), path="a.bin", old_text="a", new_text="b")


async def test_images_are_shown_to_models_that_see(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "a.png").write_bytes(PNG)
    assert "cannot see" in await run(ReadFile(paths), path="a.png")
    turn = turn_in("cli:direct", images=True)
    with tool_surroundings(turn, "call", print):
        output = await ReadFile(paths).execute(path="a.png")
        assert isinstance(output, ToolOutput)
        assert output.images[0].media_type == "image/png"
        assert base64.b64decode(output.images[0].data) == PNG
        with (workspace / "big.png").open("wb") as file:
            file.write(PNG)
            file.truncate(6_000_000)
        assert "larger than" in await run(ReadFile(paths), path="big.png")


async def test_missing_files_name_their_neighbours(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "docs").mkdir()
    (workspace / "docs/README.md").touch()
    message = await failure(ReadFile(paths), path="docs/readme.txt")
    assert "does not exist" in message
    assert "README.md" in message
    assert "docs" in await failure(ReadFile(paths), path="dosc/README.md")
    assert "list_dir" in await failure(ReadFile(paths), path="docs")
    assert "is a file" in await failure(ReadFile(paths), path="docs/README.md/x")


async def test_a4_private_files_are_closed_to_every_tool(workspace: Path, paths: PathPolicy) -> None:
    for tool in file_tools(paths):
        given = {"path": "../config.json", "content": "x", "old_text": "a", "new_text": "b"}
        arguments = {name: given[name] for name in tool.parameters["required"]}
        with pytest.raises(AccessDenied):
            await tool.execute(**arguments)
    with pytest.raises(AccessDenied):
        await ListDir(paths).execute(path="..")
    assert (workspace.parent / "config.json").read_text() == '{"apiKey": "sk-1"}'


async def test_write_creates_folders_and_says_what_it_did(workspace: Path, paths: PathPolicy) -> None:
    tool = WriteFile(paths)
    assert await run(tool, path="a/b.txt", content="one\ntwo\n") == "Created a/b.txt: 2 lines, 8 bytes."
    assert await run(tool, path="a/b.txt", content="") == "Overwrote a/b.txt: 0 lines, 0 bytes."
    assert "folder" in await failure(tool, path="a", content="x")
    assert "is a file" in await failure(tool, path="a/b.txt/c", content="x")
    await run(tool, path="odd.txt", content="half a pair: \ud83d")
    assert (workspace / "odd.txt").read_text() == "half a pair: ?"


async def test_edit_replaces_the_one_match(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "a.py").write_text("x = 1\ny = 2\nz = 3\n")
    text = await run(EditFile(paths), path="a.py", old_text="y = 2", new_text="y = 20\nw = 4")
    assert (workspace / "a.py").read_text() == "x = 1\ny = 20\nw = 4\nz = 3\n"
    assert text == "Edited a.py:\n@@ line 2 @@\n-y = 2\n+y = 20\n+w = 4"


async def test_edit_refuses_what_is_unclear(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "a.txt").write_text("a\nb\na\naaa\n")
    edit = EditFile(paths)
    assert "occurs 3 times, at lines 1, 3, 4 of" in await failure(
        edit, path="a.txt", old_text="a\n", new_text=""
    )
    assert "at lines 1, 3, 4" in await failure(edit, path="a.txt", old_text="a", new_text="c")
    assert "at lines 4, 4" in await failure(edit, path="a.txt", old_text="aa", new_text="c")
    assert "the same" in await failure(edit, path="a.txt", old_text="b", new_text="b")
    assert "empty" in await failure(edit, path="a.txt", old_text="", new_text="b")
    assert (workspace / "a.txt").read_text() == "a\nb\na\naaa\n"


async def test_edit_shows_the_nearest_miss(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "a.py").write_text("import os\n\n\ndef total(items):\n\treturn sum(items)\n")
    edit = EditFile(paths)
    message = await failure(
        edit, path="a.py", old_text="def total(items):\n    return sum(items)\n", new_text="x"
    )
    assert "Only whitespace differs at line 4" in message
    assert "@@ line 4 @@\n def total(items):\n-    return sum(items)\n+\treturn sum(items)" in message
    message = await failure(edit, path="a.py", old_text="def totals(item):", new_text="x")
    assert "-def totals(item):\n+def total(items):" in message
    assert "Nothing in the file" in await failure(edit, path="a.py", old_text="§§§§§§", new_text="x")


def test_the_nearest_miss_in_a_large_file_is_found_quickly() -> None:
    """Quadratic work here would take hours; the test timeout is the judge."""
    text = "\n".join(f"value_{number} = compute({number}) # comment" for number in range(200_000))
    old = "\n".join(f"valve_{number} = compute({number})" for number in range(5_000))
    assert "The nearest text" in near_miss(text, old)
    assert near_miss("a" * 5_000_000, "b" * 5_000_000)
    assert "The nearest text" in near_miss("ab" * 2_500_000, "ba" * 100_000)


async def test_edit_keeps_line_ends_encoding_mode_and_bom(workspace: Path, paths: PathPolicy) -> None:
    edit = EditFile(paths)
    file = workspace / "dos.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\nthree gr\xfc\r\n")
    file.chmod(0o640)
    await run(edit, path="dos.txt", old_text="one\ntwo\n", new_text="1\n2\n2.5\n")
    assert file.read_bytes() == b"\xef\xbb\xbf1\r\n2\r\n2.5\r\nthree gr\xfc\r\n"
    await run(edit, path="dos.txt", old_text="2.5", new_text="a\nb")
    assert file.read_bytes() == b"\xef\xbb\xbf1\r\n2\r\na\r\nb\r\nthree gr\xfc\r\n"
    assert file.stat().st_mode & 0o777 == 0o640
    (workspace / "unix.txt").write_bytes(b"one\ntwo\n")
    await run(edit, path="unix.txt", old_text="one\r\ntwo", new_text="1\r\n2")
    assert (workspace / "unix.txt").read_bytes() == b"1\n2\n"


async def test_list_dir_is_sorted_and_shows_kinds(workspace: Path, paths: PathPolicy) -> None:
    (workspace / "b").mkdir()
    (workspace / ".hidden").write_text("x")
    (workspace / "a.txt").write_text("x" * 1500)
    (workspace / "link").symlink_to("a.txt")
    (workspace / "new\nline").touch()
    assert (await run(ListDir(paths), path=".")).splitlines() == [
        ".hidden  1 bytes",
        "a.txt  1.5 kB",
        "b/",
        "link -> a.txt",
        "'new\\nline'  0 bytes",
    ]
    assert await run(ListDir(paths), path="b") == "b is empty."
    assert "is a file" in await failure(ListDir(paths), path="a.txt")


async def test_list_dir_is_bounded(workspace: Path, paths: PathPolicy) -> None:
    for number in range(3000):
        os.close(os.open(workspace / f"f{number:05}", os.O_CREAT | os.O_WRONLY))
    lines = (await run(ListDir(paths), path=".")).splitlines()
    assert lines[0].startswith("f00000")
    assert lines[499].startswith("f00499")
    assert lines[500:] == ["[2500 more of 3000 entries are not shown]"]


def test_what_may_run_again_after_a_crash(paths: PathPolicy) -> None:
    assert [tool.name for tool in file_tools(paths) if tool.repeatable] == ["read_file", "list_dir"]
    assert [tool.name for tool in file_tools(paths) if tool.read_only] == ["read_file", "list_dir"]


async def test_a_record_is_shown_as_it_was_stored_with_its_images(tmp_path: Path) -> None:
    image = ImagePart("image/png", "aGk=")

    async def record(session_key: str, number: int) -> ToolOutput | None:
        return ToolOutput("one\ntwo\nthree", (image,)) if (session_key, number) == ("cli:a", 7) else None

    tool = ReadFile(PathPolicy(tmp_path, restrict=True), record)
    with tool_surroundings(turn_in("cli:a", images=True), "c", lambda _: None):
        shown = await tool.execute(path="record:7", offset=2, limit=1)
        assert isinstance(shown, ToolOutput)
        assert shown.text.startswith("two\n")
        assert shown.images == (image,)
        for path in ("record:8", "record:" + "9" * 15):
            with pytest.raises(ToolError, match="has no message"):
                await tool.execute(path=path)
        with pytest.raises(ToolError, match="does not exist"):
            await tool.execute(path="record:" + "9" * 30)
    with tool_surroundings(turn_in("cli:b"), "c", lambda _: None):
        with pytest.raises(ToolError, match="has no message"):
            await tool.execute(path="record:7")
