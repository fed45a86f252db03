"""Where `nanobot` and `python -m nanobot` start: answers `--version` before anything is imported."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line and leave with its exit code: 0 answered, 1 failed, 2 usage, 130 interrupted."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        from nanobot import __version__

        try:
            print(f"nanobot {__version__}", flush=True)
        except OSError:  # whoever was to read it is gone, or the disk is full
            os._exit(1)
        return
    import gc
    import signal

    # Start-up makes little garbage and much that stays: collecting every 700 objects costs 5 % of it.
    gc.set_threshold(20_000, 20, 20)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # nobody's: looking for them takes time
    # Ctrl-C in the middle of an import would end in a traceback; commands put their own handler later.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        from nanobot.cli.run import run

        code = run()
    except KeyboardInterrupt:
        code = 130
    sys.stderr.flush()
    os._exit(code)  # all is closed and flushed; taking the interpreter apart would cost a sixth of a turn


if __name__ == "__main__":
    main()
