"""Files that are not UTF-8 with LF: a change keeps encoding, mark and line ends, or says how to go on."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobot.agent.tools import ToolOutput
from nanobot.errors import ToolError
from nanobot.security.files import PathPolicy
from nanobot.tools.filesystem import EditFile, ReadFile, WriteFile

# codec: letters it has; "+mark" codecs begin with a byte order mark, all others must be named to the tool.
LETTERS = {
    "utf-8": "aß€天😀",
    "utf-8+mark": "aß€天😀",
    "utf-16-le+mark": "aß€天😀",
    "utf-16-be+mark": "aß€天😀",
    "utf-32-le+mark": "aß€天😀",
    "cp932": "a表ソ天ｱ能",
    "shift_jis": "a表ソ天ｱ能",
    "euc_jp": "a表天日本語",
    "iso2022_jp": "a表天",
    "gbk": "a天镕乗",
    "gb18030": "a天镕€",
    "big5": "a天功許",
    "cp949": "a내똠",
    "cp1252": "aß€é",
    "latin-1": "aßé",
    "cp1251": "aЖя",
    "koi8-r": "aЖя",
    "cp1255": "aש",
}
MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
}
ENDS = ["\n", "\r\n", "\r"]


def packed(text: str, name: str) -> bytes:
    codec, _, mark = name.partition("+")
    return (MARKS[codec] if mark else b"") + text.encode(codec)


def given_encoding(name: str) -> dict[str, str]:
    return {} if name.startswith("utf") else {"encoding": name}


def words(name: str) -> st.SearchStrategy[str]:
    return st.text(LETTERS[name] + " =\\", max_size=6)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path


def tools(workspace: Path) -> tuple[ReadFile, WriteFile, EditFile]:
    paths = PathPolicy(workspace, restrict=False)
    return ReadFile(paths), WriteFile(paths), EditFile(paths)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_an_edit_changes_what_it_says_and_nothing_else(workspace: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(LETTERS)))
    lines = [f"{number}:{data.draw(words(name))}" for number in range(data.draw(st.integers(1, 6)))]
    only = data.draw(st.sampled_from([*ENDS, "mixed"]))
    mixed = st.sampled_from(["\n", "\r\n"])
    ends = [data.draw(mixed) if only == "mixed" else only for _ in lines]
    if data.draw(st.booleans()):
        ends[-1] = ""  # no line end at the end of the file
    file = workspace / "a.txt"
    file.write_bytes(packed("".join(map("".join, zip(lines, ends, strict=True))), name))
    first = data.draw(st.integers(0, len(lines) - 1))
    last = data.draw(st.integers(first, len(lines) - 1))
    new = [f"new{number}:{data.draw(words(name))}" for number in range(data.draw(st.integers(1, 4)))]
    end = data.draw(st.sampled_from(["\n", "\r\n"]))  # as the model writes it
    _, _, edit = tools(workspace)
    old_text, new_text = end.join(lines[first : last + 1]), end.join(new)
    await edit.execute(path="a.txt", old_text=old_text, new_text=new_text, **given_encoding(name))
    text = file.read_bytes().removeprefix(MARKS[name.partition("+")[0]] if "+" in name else b"")
    parts = re.split(r"(\r\n|\n|\r)", text.decode(name.partition("+")[0]))
    assert parts[::2] == [*lines[:first], *new, *lines[last + 1 :], *([""] if ends[-1] else [])]
    found = parts[1::2]
    assert found[:first] == ends[:first]
    assert found[len(found) - len(ends[last:]) + (not ends[-1]) :] == [*filter(None, ends[last:])]
    if only != "mixed":
        assert {*found} <= {only if len([*filter(None, ends)]) else "\n"}
    assert file.read_bytes() == packed("".join(parts), name)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_rewritten_file_stays_in_its_encoding(workspace: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(LETTERS)))
    end = data.draw(st.sampled_from(ENDS))
    before = f"{LETTERS[name]}{end}second{end}"
    after = "\n".join(data.draw(st.lists(words(name), min_size=1, max_size=5)))
    file = workspace / "a.txt"
    file.write_bytes(packed(before, name))
    file.chmod(0o640)
    read, write, _ = tools(workspace)
    assert str(await read.execute(path="a.txt", **given_encoding(name))).startswith(LETTERS[name])
    await write.execute(path="a.txt", content=after, **given_encoding(name))
    assert file.read_bytes() == packed(after.replace("\n", end), name)
    assert file.stat().st_mode & 0o777 == 0o640


async def refused(call: object) -> str:
    with pytest.raises(ToolError) as caught:
        await call  # type: ignore[misc]
    return str(caught.value)


@pytest.mark.parametrize("name", ["cp932", "gbk", "latin-1", "euc_jp", "koi8-r"])
async def test_what_is_not_utf8_is_not_guessed(workspace: Path, name: str) -> None:
    file = workspace / "a.ini"
    before = f"[menu]\r\ntitle={LETTERS[name]}\r\nlang=ja\r\n".encode(name)
    file.write_bytes(before)
    read, write, edit = tools(workspace)
    assert "not valid UTF-8" in str(await read.execute(path="a.ini"))
    for call in (
        edit.execute(path="a.ini", old_text="lang=ja", new_text="lang=ja\nfont=明朝"),
        edit.execute(path="a.ini", old_text=LETTERS[name], new_text="x"),
        write.execute(path="a.ini", content="font=明朝\n"),
        edit.execute(path="a.ini", old_text="lang", new_text="x", encoding="ascii"),
        edit.execute(path="a.ini", old_text="lang", new_text="x", encoding="rot13"),
    ):
        assert "encoding" in await refused(call)
        assert file.read_bytes() == before
    # ASCII is the same in all of them.
    await edit.execute(path="a.ini", old_text="lang=ja", new_text="lang=en\nsize=1")
    assert file.read_bytes() == before.replace(b"lang=ja", b"lang=en\r\nsize=1")
    await write.execute(path="a.ini", content="[menu]\nlang=en\n")
    assert file.read_bytes() == b"[menu]\r\nlang=en\r\n"


async def test_half_a_character_is_no_match(workspace: Path) -> None:
    """0x95 0x5c is one character of CP932, whose second half looks like a backslash."""
    file = workspace / "a.txt"
    file.write_bytes("表ABC 1\n".encode("cp932"))
    _, _, edit = tools(workspace)
    assert "not in UTF-8" in await refused(edit.execute(path="a.txt", old_text="\\ABC", new_text="x"))
    assert "does not occur" in await refused(
        edit.execute(path="a.txt", old_text="\\ABC", new_text="x", encoding="cp932")
    )
    assert file.read_bytes() == "表ABC 1\n".encode("cp932")


async def test_a_character_the_encoding_lacks_is_named(workspace: Path) -> None:
    file = workspace / "a.txt"
    file.write_bytes("größe\n".encode("cp1252"))
    _, write, edit = tools(workspace)
    message = await refused(edit.execute(path="a.txt", old_text="größe", new_text="天", encoding="cp1252"))
    assert "cp1252, which has no '天'" in message
    assert "write_file" in message
    assert file.read_bytes() == "größe\n".encode("cp1252")
    await write.execute(path="a.txt", content="天\n", encoding="utf-8")  # the way on that it names
    assert file.read_text("utf-8") == "天\n"


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        ("# -*- coding: cp1251 -*-\n", "cp1251"),
        ("#!/usr/bin/python\n# vim: set fileencoding=koi8-r :\n", "koi8-r"),
        ('<?xml version="1.0" encoding="windows-1251"?>\n', "cp1251"),
        ('<!doctype html>\n<meta charset="windows-1251">\n', "cp1251"),
        ('@charset "windows-1251";\n', "cp1251"),
        ("encoding: cp1251 is what this text is about\n", "utf-8"),
        ("# coding: utf-8\n", "utf-8"),
        ("# coding: no-such-thing\n", "utf-8"),
        ("# coding: unicode_escape\n", "utf-8"),
    ],
)
async def test_a_file_that_names_its_encoding_is_believed(workspace: Path, head: str, codec: str) -> None:
    read, write, edit = tools(workspace)
    file = workspace / "a.txt"
    file.write_bytes(f"{head}x = 1\n".encode())
    await edit.execute(path="a.txt", old_text="x = 1", new_text="x = 'Жук'")
    assert file.read_bytes() == f"{head}x = 'Жук'\n".encode(codec)
    await edit.execute(path="a.txt", old_text="'Жук'", new_text="'я'")
    assert file.read_bytes() == f"{head}x = 'я'\n".encode(codec)
    assert "'я'" in str(await read.execute(path="a.txt"))
    await write.execute(path="a.txt", content=f"{head}y = 'Ж'\n")
    assert file.read_bytes() == f"{head}y = 'Ж'\n".encode(codec)


async def test_a_wrong_name_in_a_utf8_file_is_not_believed(workspace: Path) -> None:
    file = workspace / "a.py"
    file.write_text("# coding: latin-1\nx = 'é'\n", "utf-8")
    _, _, edit = tools(workspace)
    await edit.execute(path="a.py", old_text="'é'", new_text="'è'")
    assert file.read_bytes() == "# coding: latin-1\nx = 'è'\n".encode()


async def test_line_ends_of_the_model_do_not_matter(workspace: Path) -> None:
    file = workspace / "a.txt"
    _, write, edit = tools(workspace)
    await write.execute(path="new.bat", content="one\r\ntwo\r\n")
    assert (workspace / "new.bat").read_bytes() == b"one\r\ntwo\r\n"
    file.write_bytes(b"a\r\nb\nc\r\nd")
    await edit.execute(path="a.txt", old_text="a\nb\nc\nd", new_text="a\nB\nx\nc\nd")
    assert file.read_bytes() == b"a\r\nB\nx\nc\r\nd"
    with pytest.raises(ToolError, match="but for line ends"):
        await edit.execute(path="a.txt", old_text="a\nB", new_text="a\r\nB")


async def test_a_link_stays_a_link(workspace: Path) -> None:
    (workspace / "real.csv").write_bytes(codecs.BOM_UTF8 + b"a;b\r\n")
    (workspace / "link.csv").symlink_to("real.csv")
    _, write, _ = tools(workspace)
    await write.execute(path="link.csv", content="ä;b\nc;d\n")
    assert (workspace / "link.csv").is_symlink()
    assert (workspace / "real.csv").read_bytes() == codecs.BOM_UTF8 + "ä;b\r\nc;d\r\n".encode()


@pytest.mark.parametrize(
    "piece", ["coding:", "# coding", "<meta ", "<?xml ", "charset=", "\n#", "\r", "\r\n"]
)
async def test_the_search_for_a_name_costs_little(workspace: Path, piece: str) -> None:
    file = workspace / "a.txt"
    file.write_text(piece * 200_000)
    read, write, _ = tools(workspace)
    assert await read.execute(path="a.txt", limit=1) != ToolOutput("")
    await write.execute(path="a.txt", content="x\n")
