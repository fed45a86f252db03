"""The budget check, run as `make check` runs it, on small packages that break one rule each."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "scripts" / "check_budgets.py"
CAUGHT = "try:\n        tool()\n    except {caught}:\n        {then}\n"


def check(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHECK), str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def faults(root: Path) -> list[str]:
    """What is wrong with a package, without the edges that exist in nanobot only."""
    done = check(root)
    found = [line for line in done.stderr.splitlines() if "lists an edge that is gone" not in line]
    assert done.returncode == 1
    return found


def write(root: Path, name: str, text: str) -> None:
    path = root / "nanobot" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_counts_every_line_of_a_room_as_wc_does(tmp_path: Path) -> None:
    write(tmp_path, "agent/loop.py", "# comment\n\nx = 1\n")
    write(tmp_path, "agent/tools/shell.py", "y = 2\n")
    write(tmp_path, "app.py", "z = 3\n")
    write(tmp_path, "cli/main.py", "a = 1\nb = 2\n")
    table = {line.split()[0].rstrip("/"): line.split()[-1] for line in check(tmp_path).stdout.splitlines()}
    rows = [line.split() for line in check(tmp_path).stdout.splitlines()]
    assert ["core", "5", "of", "4000"] in rows
    assert ["agent/", "4"] in rows
    assert ["root", "files", "1"] in rows
    assert ["cli/", "2", "of", "2000"] in rows
    assert table["total"] == "7"


@pytest.mark.parametrize(
    ("room", "limit"), [("security", 1000), ("providers", 2000), ("cli", 2000), ("session", 4000)]
)
def test_room_over_its_budget(tmp_path: Path, room: str, limit: int) -> None:
    for number in range(limit // 400 + 1):
        write(tmp_path, f"{room}/part{number}.py", "x = 1\n" * 400)
    lines = (limit // 400 + 1) * 400
    name = "core" if room == "session" else f"{room}/"
    over = lines - limit
    assert faults(tmp_path) == [f"{name}: {lines} lines, {over} more than its budget of {limit}"]


def test_room_at_its_budget_is_fine(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path, f"cli/part{number}.py", "x = 1\n" * 400)
    assert faults(tmp_path) == []


def test_long_file(tmp_path: Path) -> None:
    write(tmp_path, "channels/big.py", "x = 1\n" * 401)
    assert faults(tmp_path) == ["nanobot/channels/big.py: 401 lines, a file has at most 400"]


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_long_function(tmp_path: Path, keyword: str) -> None:
    write(tmp_path, "cli/a.py", f"{keyword} fits():\n" + "    x = 1\n" * 59)
    write(tmp_path, "cli/b.py", f"\n{keyword} long():\n" + "    x = 1\n" * 60)
    assert faults(tmp_path) == ["nanobot/cli/b.py:2: long is 61 lines, at most 60"]


@pytest.mark.parametrize("caught", ["Exception", "BaseException", "(OSError, Exception)", "Exception as e"])
def test_catching_everything_outside_the_edges(tmp_path: Path, caught: str) -> None:
    write(tmp_path, "cli/a.py", "def run():\n    " + CAUGHT.format(caught=caught, then="log()"))
    assert faults(tmp_path) == ["nanobot/cli/a.py:4: run catches every exception and is not one of the edges"]


@pytest.mark.parametrize(
    ("caught", "then"), [("ValueError", "log()"), ("Exception", "raise"), ("BaseException", "raise")]
)
def test_catching_what_is_expected_or_raising_again(tmp_path: Path, caught: str, then: str) -> None:
    write(tmp_path, "cli/a.py", "def run():\n    " + CAUGHT.format(caught=caught, then=then))
    assert faults(tmp_path) == []


def test_bare_except_and_a_broad_handler_in_an_inner_function(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "try:\n    x()\nexcept:\n    pass\n")
    write(tmp_path, "b.py", "def f():\n  def g():\n    " + CAUGHT.format(caught="Exception", then="log()"))
    assert [fault.split(" catches")[0] for fault in faults(tmp_path)] == [
        "nanobot/a.py:3: the module",
        "nanobot/b.py:5: g",
    ]


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error"])
def test_unfinished_work(tmp_path: Path, word: str) -> None:
    write(tmp_path, "a.py", f"x = 1\ny = 2  # {word}: later\n")
    assert faults(tmp_path) == [f"nanobot/a.py:2: {word} left behind"]


def test_an_edge_that_is_gone_is_reported(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "x = 1\n")
    assert "lists an edge that is gone" in check(tmp_path).stderr


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "x = 1\ndef (:\n")
    assert faults(tmp_path) == ["nanobot/a.py:2: invalid syntax"]


def test_core_agent_lines_prints_the_table_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "core_agent_lines.sh"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == check(ROOT).stdout
    assert done.stdout.startswith("core ")
