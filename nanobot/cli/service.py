"""`nanobot gateway install` and `uninstall`: the gateway as a systemd user service."""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from nanobot import paths
from nanobot.errors import UsageError
from nanobot.security.process import run_program
from nanobot.terminal.screen import complain

UNIT = "nanobot-gateway.service"
_TEXT = """\
# Written by `nanobot gateway install`, see systemd.service(5).
[Unit]
Description=nanobot gateway
After=network-online.target

[Service]
Type=notify
ExecStart={command} gateway
{environment}Restart=always
RestartSec=10
KillMode=mixed
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def install() -> int:
    """Write the unit, enable and start it; 1 when systemd was asked and could not start it."""
    unit, wanted = unit_path(), unit_text()
    replaced = _set_aside(unit, wanted)
    paths.make_private_dir(unit.parent)
    paths.write_atomic(unit, wanted, mode=0o644)
    print(f"Wrote {unit}")
    if not _systemctl("daemon-reload"):
        print("systemd cannot be reached from here. Where it can, run:")
        print(f"  systemctl --user daemon-reload\n  systemctl --user enable --now {UNIT}")
    elif not _systemctl("enable", "--now", UNIT) or (replaced and not _systemctl("restart", UNIT)):
        complain(f"Error: the service did not start; `journalctl --user -u {UNIT}` says why.")
        return 1
    else:
        print(f"The gateway runs. Its log: journalctl --user -u {UNIT} -f")
    print("Variables of this shell do not reach the service: put keys into config.json.")
    print("To keep it running while you are logged out: loginctl enable-linger $USER")
    return 0


def uninstall() -> int:
    """Stop, disable and remove the service; 1 when systemd could not be asked to stop it."""
    unit = unit_path()
    if not unit.exists():
        print(f"There is no {unit}, so nothing was done.")
        return 0
    stopped = _systemctl("disable", "--now", UNIT)
    _set_aside(unit, unit_text())
    unit.unlink(missing_ok=True)
    print(f"Removed {unit}")
    if stopped and _systemctl("daemon-reload"):
        return 0
    complain(f"Error: systemd was not reached. Where it can be, run: systemctl --user stop {UNIT}")
    return 1


def unit_path() -> Path:
    """Where systemd looks for the units of this user."""
    return Path.home() / ".config" / "systemd" / "user" / UNIT


def unit_text() -> str:
    """What `install` writes. Raises UsageError when a path cannot be written into a unit."""
    script = Path(sys.argv[0]).absolute()
    is_command = script.name == "nanobot" and os.access(script, os.X_OK)
    command = _quoted(str(script)) if is_command else f"{_quoted(sys.executable)} -m nanobot"
    home = f"NANOBOT_HOME={paths.home()}"
    environment = f"Environment={_quoted(home)}\n" if os.environ.get("NANOBOT_HOME") else ""
    return _TEXT.format(command=command, environment=environment)


def _quoted(text: str) -> str:
    """`text` as one word of a unit: quoted, and without specifiers (systemd.syntax(7), systemd.unit(5))."""
    if not text.isprintable():
        raise UsageError(f"{text!r} cannot stand in a systemd unit. Use a path of printable characters.")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _set_aside(unit: Path, wanted: str) -> bool:
    """Keep a unit that differs from `wanted`, such as one edited by hand, under another name."""
    if not unit.exists() or unit.read_text(encoding="utf-8", errors="replace") == wanted:
        return False
    names = (unit.with_name(f"{UNIT}.bak{number or ''}") for number in itertools.count())
    kept = next(name for name in names if not name.exists())
    unit.rename(kept)
    print(f"The unit that was there is different; it is kept as {kept}")
    return True


def _systemctl(*arguments: str) -> bool:
    """Whether `systemctl --user` did it; what it complains about is shown by itself."""
    bus = "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"
    try:
        return run_program(["systemctl", "--user", *arguments], inherited=bus) == 0
    except OSError:
        return False
