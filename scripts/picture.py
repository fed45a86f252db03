"""Draw docs/conversation.svg: a conversation in a real terminal, with a scripted model."""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pexpect
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[1]
ROWS, COLUMNS = 28, 92
TOMORROW = date.today() + timedelta(days=1)
COLOURS = {"brown": "yellow", "default": None}
REPLIES = [
    {
        "text": "",
        "tool_calls": [
            {"name": "exec", "arguments": {"command": "python3 test_prices.py", "working_dir": "."}}
        ],
    },
    {
        "text": "",
        "tool_calls": [
            {
                "name": "edit_file",
                "arguments": {
                    "path": "prices.py",
                    "old_text": "total * 0.19",
                    "new_text": "total * (1 + VAT)",
                },
            }
        ],
    },
    {
        "text": "",
        "tool_calls": [
            {"name": "exec", "arguments": {"command": "python3 test_prices.py", "working_dir": "."}}
        ],
    },
    {
        "text": "Fixed. `with_vat` returned **only the tax**; now it returns the price with it, "
        "and the test passes:\n\n| price | before | now |\n|---|---|---|\n| 100 | 19.0 | 119.0 |\n"
    },
    {
        "text": "",
        "tool_calls": [
            {
                "name": "cron",
                "arguments": {"action": "add", "message": "Send the invoices", "at": f"{TOMORROW}T09:00"},
            }
        ],
    },
    {"text": "I will remind you tomorrow at 9:00 to send the invoices."},
]
ASKED = (
    "The test in this folder fails. Can you find out why?",
    "Thanks! Remind me of the invoices tomorrow at 9.",
)


def main() -> None:
    """Run the conversation and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        screen = converse(Path(folder))
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(styled(screen), end="")
    drawing = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="nanobot agent"), flags=re.DOTALL)
    (ROOT / "docs" / "conversation.svg").write_text(drawing, "utf-8")  # with the reader's own fonts


def converse(folder: Path) -> pyte.Screen:
    """The screen at the end of the conversation."""
    home = folder / "home"
    home.mkdir()
    script = folder / "your-model"
    script.write_text(json.dumps({"replies": REPLIES}))
    workspace = home / "workspace"
    workspace.mkdir()
    (workspace / "prices.py").write_text("VAT = 0.19\n\n\ndef with_vat(total):\n    return total * 0.19\n")
    (workspace / "test_prices.py").write_text(
        "from prices import with_vat\n\nassert with_vat(100) == 119, with_vat(100)\n"
    )
    environment = {**os.environ, "NANOBOT_HOME": str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    command = ["-m", "nanobot", "agent", "--model", f"scripted/{script}"]
    terminal = pexpect.spawn(sys.executable, command, env=environment, cwd=folder, dimensions=(ROWS, COLUMNS))
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)

    def until(words: str) -> None:
        deadline = time.monotonic() + 30
        while words not in "\n".join(screen.display):
            data: Any = terminal.read_nonblocking(65_536, max(0.1, deadline - time.monotonic()))
            stream.feed(data)

    until("Ctrl-D leaves")
    for text, answer in zip(ASKED, ("119.0", "send the invoices"), strict=True):
        terminal.send(f"{text}\r")
        until(answer)
        until("context")
    terminal.close(force=True)
    return screen


def styled(screen: pyte.Screen) -> Text:
    """What is on the screen, in its colours."""
    text = Text()
    for row in range(screen.lines):
        for column in range(screen.columns):
            char = screen.buffer[row][column]
            colour = COLOURS.get(char.fg, char.fg)
            if colour and not colour.isalpha():
                colour = f"#{colour}"
            style = Style(color=colour, bold=char.bold, italic=char.italics, reverse=char.reverse)
            text.append(char.data, style)
        text.append("\n")
    text.rstrip()
    return text


if __name__ == "__main__":
    main()
