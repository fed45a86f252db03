"""An MCP server on stdio without any SDK, whose every fault is an argument:
`python fault_server.py [MODE …]`. It writes what it receives to the file named by $TRANSCRIPT.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

MODES = {*sys.argv[1:]}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
NOTHING: dict[str, Any] = {"type": "object"}
lock = threading.Lock()
calls = 0
extra = False


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": f"Does {name}.", "inputSchema": NOTHING, **more}


def tools() -> list[dict[str, Any]]:
    listed = [
        tool("echo", inputSchema={"type": "object", "properties": {"text": {"type": "string"}}}),
        tool("look", annotations={"readOnlyHint": True}),
        tool("set", annotations={"idempotentHint": True}),
        tool("slow"),
        tool("die"),
        tool("grow"),
        tool("fail"),
        tool("everything"),
        tool("precise"),
        tool("environment"),
        tool("progress"),
        tool("ask"),
        tool("broken", outputSchema={"type": "object", "required": ["a"], "properties": {"a": NOTHING}}),
    ]
    if "odd" in MODES:
        listed += [
            tool("white space/slash"),
            tool("white space.slash"),
            tool("n" * 100 + "1"),
            tool("n" * 100 + "2"),
            tool("echo"),
            tool("wordy", description="x\x1b[31m\u200b" + "y" * 10_000),
            tool("pattern", inputSchema={"properties": {"s": {"type": "string", "pattern": r"^\p{L}+$"}}}),
            tool(
                "reference", inputSchema={"properties": {"r": {"$ref": "#/$defs/R"}}, "$defs": {"R": NOTHING}}
            ),
            tool("keyed", inputSchema={"properties": {"$key": {"type": "string"}}, "required": ["$key"]}),
            tool("nothing", inputSchema={"type": "object", "properties": None, "required": None}),
        ]
    return [*listed, tool("grown")] if extra else listed


def send(message: dict[str, Any]) -> None:
    with lock:
        print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}], **more}


def everything() -> dict[str, Any]:
    link = {"type": "resource_link", "uri": "file:///a.txt", "name": "a", "mimeType": "text/plain"}
    content = [
        {"type": "text", "text": "words"},
        {"type": "image", "data": PIXEL, "mimeType": "image/png"},
        {"type": "image", "data": f"SUkq{PIXEL[4:]}", "mimeType": "image/tiff"},
        {"type": "image", "data": f"data:image/png;base64,{PIXEL}\n", "mimeType": "image/jpg"},
        {"type": "image", "data": PIXEL[:-1], "mimeType": "image/png"},
        {"type": "audio", "data": PIXEL, "mimeType": "audio/wav"},
        {**link, "description": "the first letter", "size": 12},
        {"type": "resource", "resource": {"uri": "x://t", "mimeType": "text/plain", "text": "inside"}},
        {"type": "resource", "resource": {"uri": "x://b", "mimeType": "application/zip", "blob": PIXEL}},
    ]
    return {"content": content, "structuredContent": {"sum": 5}}


def call(number: Any, params: dict[str, Any]) -> None:
    global extra
    name = params["name"]
    if name == "die":
        print("a last word", file=sys.stderr, flush=True)
        os._exit(7)
    if name == "slow":
        return
    results = {
        "echo": lambda: text(str(params.get("arguments", {}).get("text"))),
        "keyed": lambda: text(json.dumps(params["arguments"])),
        "fail": lambda: text("it went wrong", isError=True),
        "everything": everything,
        "environment": lambda: text(json.dumps({**os.environ, "CWD": str(Path.cwd())})),
        "broken": lambda: text("useful all the same"),
    }
    if name == "precise":  # json.dumps has no way to write this
        said, content = params["arguments"]["said"], params["arguments"]["content"]
        blocks = json.dumps(text(said)["content"])
        result = f'{{"content": {blocks}, "structuredContent": {content}}}'
        with lock:
            print(f'{{"jsonrpc": "2.0", "id": {number}, "result": {result}}}', flush=True)
        return
    if name == "grow":
        extra = True
        send({"method": "notifications/tools/list_changed"})
    if name == "progress":
        token = params["_meta"]["progressToken"]
        send(
            {
                "method": "notifications/progress",
                "params": {"progressToken": token, "progress": 1, "total": 2, "message": "half"},
            }
        )
    if name == "ask":
        schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
        send(
            {
                "id": f"ask-{number}",
                "method": "elicitation/create",
                "params": {"message": "Sure?", "requestedSchema": schema},
            }
        )
    send({"id": number, "result": results.get(name, lambda: text(f"{name} done"))()})


def answer(message: dict[str, Any]) -> None:
    method, number = message.get("method"), message.get("id")
    if method == "initialize":
        if "hang" in MODES:
            return
        version = message["params"]["protocolVersion"]
        info = {"name": "fault", "version": "1"}
        send(
            {
                "id": number,
                "result": {
                    "protocolVersion": version,
                    "capabilities": {"tools": {"listChanged": True}},
                    "serverInfo": info,
                },
            }
        )
    elif method == "tools/list":
        listed = tools()
        if "pages" in MODES:
            start = int(message.get("params", {}).get("cursor") or 0)
            more = {"nextCursor": str(start + 3)} if start + 3 < len(listed) else {}
            send({"id": number, "result": {"tools": listed[start : start + 3], **more}})
        else:
            send({"id": number, "result": {"tools": listed}})
        if "crash-when-listed" in MODES:
            os._exit(1)
        while "deaf" in MODES:
            time.sleep(60)
    elif method == "tools/call":
        call(number, message["params"])
    elif method == "ping":
        send({"id": number, "result": {}})


def main() -> None:
    if "exit" in MODES:
        print("cannot go on: no licence", end="", file=sys.stderr)
        sys.exit(3)
    if "stubborn" in MODES:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "banner" in MODES:
        print("Welcome to the fault server!", flush=True)
    if "flood" in MODES:
        for number in range(20_000):
            print(f"noise {number} " + "x" * 200, file=sys.stderr)
    transcript = Path(os.environ["TRANSCRIPT"]) if "TRANSCRIPT" in os.environ else None
    for line in sys.stdin:
        if transcript:
            with transcript.open("a") as file:
                file.write(line)
        answer(json.loads(line))
    while "stubborn" in MODES:
        time.sleep(60)


if __name__ == "__main__":
    main()
