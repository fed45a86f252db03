"""The first program of a sandbox: it starts those that nanobot asks for, and says how they have ended.

Given as text to a bare interpreter (`python -I -S -c`), so it imports nothing of nanobot. The number of a
SOCK_SEQPACKET socket is its argument. A request is a JSON object with two open files for the output; each
program announces itself, as the kernel adds its process id as nanobot sees it (SCM_CREDENTIALS, unix(7)).
"""

import json
import os
import resource
import select
import signal
import socket
import sys


def serve(nanobot: socket.socket) -> None:
    """Until nanobot has gone."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # memory holds secrets
    running: dict[int, int] = {}  # request by process
    while True:
        ready, _, _ = select.select([nanobot.fileno(), woken], [], [])
        if nanobot.fileno() in ready:
            data, files, _, _ = socket.recv_fds(nanobot, 1 << 20, 2)
            if not data:
                return
            request = json.loads(data)
            running[start(nanobot, request, files)] = request["id"]
            for file in files:
                os.close(file)
        if woken in ready:
            os.read(woken, 4096)
        for number, status in ended():
            if number in running:
                end = {"id": running.pop(number), "code": os.waitstatus_to_exitcode(status)}
                nanobot.send(json.dumps(end).encode())


def start(nanobot: socket.socket, request: dict, files: list[int]) -> int:  # type: ignore[type-arg]
    """Start a program in a process group of its own."""
    if number := os.fork():  # noqa: TID251  this is what starts programs in a sandbox
        return number
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        nanobot.send(json.dumps({"id": request["id"]}).encode())
        for place, file in enumerate((os.open(os.devnull, os.O_RDONLY), *files)):
            os.dup2(file, place)
        os.closerange(3, 256)
        os.chdir(request["folder"])
        os.execvpe(request["command"][0], request["command"], request["variables"])
    except OSError as error:
        os.write(2, f"The command cannot be started in the sandbox: {error}\n".encode())
    finally:
        os._exit(127)


def ended() -> list[tuple[int, int]]:
    """Processes that have ended, also what programs have left behind, with their status."""
    found = []
    try:
        while (one := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(one)
    except ChildProcessError:
        pass
    return found


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
