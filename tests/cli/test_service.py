"""`nanobot gateway install` and `uninstall`, with a `systemctl` that writes down what it is asked."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
UNIT = "nanobot-gateway.service"


class Owner:
    """A user with a home, and a systemd that fails the commands in `failing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.unit = folder / ".config" / "systemd" / "user" / UNIT
        programs = folder / "bin"
        programs.mkdir()
        self.systemctl = programs / "systemctl"
        self.fail("nothing")
        self.env = {
            "PATH": str(programs),
            "HOME": str(folder),
            "PYTHONPATH": str(CHECKOUT),
            "LANG": "C.UTF-8",
        }

    def fail(self, command: str) -> None:
        """Let `systemctl --user COMMAND` fail from now on."""
        lines = ["#!/bin/sh", f'echo "$@" >> {shlex.quote(str(self.calls))}', f'[ "$2" != {command} ]']
        self.systemctl.write_text("\n".join(lines) + "\n")
        self.systemctl.chmod(0o755)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return self.start([sys.executable, "-m", "nanobot"], command)

    def start(self, program: list[str], command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program, "gateway", command],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def asked(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def service(self) -> configparser.SectionProxy:
        unit = configparser.RawConfigParser()
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(self.unit)
        return unit["Service"]


@pytest.fixture
def owner(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


def test_install_writes_enables_and_starts(owner: Owner) -> None:
    done = owner.run("install")
    assert (done.returncode, done.stderr) == (0, "")
    assert owner.asked() == ["--user daemon-reload", f"--user enable --now {UNIT}"]
    service = owner.service()
    assert service["ExecStart"] == f'"{sys.executable}" -m nanobot gateway'
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert service["RestartSec"] == "10"
    assert service["NoNewPrivileges"] == "yes"
    assert "Environment" not in service
    assert "loginctl enable-linger $USER" in done.stdout


def test_the_installed_command_is_named_by_its_path(owner: Owner) -> None:
    script = owner.folder / "100% mine" / "nanobot"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable}\nfrom nanobot.__main__ import main\nmain()\n")
    script.chmod(0o755)
    assert owner.start([str(script)], "install").returncode == 0
    assert owner.service()["ExecStart"] == f'"{owner.folder}/100%% mine/nanobot" gateway'


def test_the_home_is_kept_and_quoted(owner: Owner) -> None:
    owner.env["NANOBOT_HOME"] = f'{owner.folder}/my "50%" \\ home'
    assert owner.run("install").returncode == 0
    expected = f'"NANOBOT_HOME={owner.folder}/my \\"50%%\\" \\\\ home"'
    assert owner.service()["Environment"] == expected


def test_a_path_with_a_line_break_is_refused(owner: Owner) -> None:
    owner.env["NANOBOT_HOME"] = f"{owner.folder}/a\nExecStart=/bin/evil"
    done = owner.run("install")
    assert done.returncode == 2
    assert "cannot stand in a systemd unit" in done.stderr
    assert not owner.unit.exists()
    assert owner.asked() == []


def test_installing_again_changes_nothing(owner: Owner) -> None:
    owner.run("install")
    before = owner.unit.read_text()
    done = owner.run("install")
    assert "kept" not in done.stdout
    assert owner.unit.read_text() == before
    assert [path.name for path in owner.unit.parent.iterdir()] == [UNIT]


def test_edited_units_are_all_kept(owner: Owner) -> None:
    owner.run("install")
    fresh = owner.unit.read_text()
    for edit in ("# first edit\n", "# second edit\n"):
        owner.unit.write_text(fresh + edit)
        done = owner.run("install")
        assert "The unit that was there is different; it is kept as" in done.stdout
        assert owner.asked()[-1] == f"--user restart {UNIT}"
        assert owner.unit.read_text() == fresh
    assert owner.unit.with_name(f"{UNIT}.bak").read_text() == fresh + "# first edit\n"
    assert owner.unit.with_name(f"{UNIT}.bak1").read_text() == fresh + "# second edit\n"


def test_without_systemd_the_commands_are_printed(owner: Owner) -> None:
    owner.systemctl.unlink()
    done = owner.run("install")
    assert done.returncode == 0
    assert owner.unit.exists()
    assert "systemctl --user daemon-reload" in done.stdout
    assert f"systemctl --user enable --now {UNIT}" in done.stdout


def test_a_service_that_does_not_start_is_an_error(owner: Owner) -> None:
    owner.fail("enable")
    done = owner.run("install")
    assert done.returncode == 1
    assert f"journalctl --user -u {UNIT}" in done.stderr


def test_uninstall_stops_and_removes(owner: Owner) -> None:
    owner.run("install")
    owner.calls.unlink()
    done = owner.run("uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    assert owner.asked() == [f"--user disable --now {UNIT}", "--user daemon-reload"]
    assert list(owner.unit.parent.iterdir()) == []


def test_uninstall_keeps_an_edited_unit_aside(owner: Owner) -> None:
    owner.run("install")
    owner.unit.write_text("[Service]\nNice=5\n")
    assert owner.run("uninstall").returncode == 0
    assert [path.name for path in owner.unit.parent.iterdir()] == [f"{UNIT}.bak"]


def test_uninstall_says_when_the_service_may_still_run(owner: Owner) -> None:
    owner.run("install")
    owner.fail("disable")
    done = owner.run("uninstall")
    assert done.returncode == 1
    assert f"systemctl --user stop {UNIT}" in done.stderr
    assert not owner.unit.exists()


def test_uninstall_without_a_unit(owner: Owner) -> None:
    done = owner.run("uninstall")
    assert done.returncode == 0
    assert "nothing was done" in done.stdout
    assert owner.asked() == []
    assert not os.path.lexists(owner.unit)
