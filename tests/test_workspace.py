"""The starter files of a workspace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from nanobot.workspace import create_workspace


def test_what_the_owner_wrote_stays(tmp_path: Path) -> None:
    (tmp_path / "SOUL.md").write_text("mine")
    created = create_workspace(tmp_path)
    assert (tmp_path / "SOUL.md").read_text() == "mine"
    assert tmp_path / "USER.md" in created
    assert create_workspace(tmp_path) == []


def test_a_disk_that_fills_up_leaves_no_empty_starter_file_behind(tmp_path: Path) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from nanobot.workspace import create_workspace\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: create_workspace(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    shown = subprocess.check_output([sys.executable, "-c", script, str(tmp_path)], text=True)
    assert shown.startswith("Cannot write")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    create_workspace(tmp_path)
    assert (tmp_path / "SOUL.md").read_text() != ""
