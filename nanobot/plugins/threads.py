"""Threads for a plugin's code, which may block, exit or never end while nanobot goes on."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import threading
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from nanobot.errors import ToolError

log = logging.getLogger(__name__)

_MOST_STUCK = 4  # calls of one plugin that do not end although they were told to; then it gets no more
_GRACE = 2.0  # seconds a cancelled call has before its thread is interrupted


class PluginThreads:
    """Runs the code of one plugin file, each call in a thread that has an event loop of its own.

    Calls that follow each other share a thread, so that a client which a plugin keeps stays usable.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._idle: list[_Worker] = []
        self._stuck: list[_Worker] = []
        self._closed = False

    async def run(self, work: Callable[[], Any], seconds: float) -> Any:
        """What `work` returns, awaited in the thread's event loop if need be.

        Raises ToolError, which says what and where, for anything that `work` raises, and TimeoutError
        after `seconds`. Then, or when the caller is cancelled, the thread is left to itself.
        """
        self._stuck = [worker for worker in self._stuck if worker.thread.is_alive()]
        if len(self._stuck) >= _MOST_STUCK:
            raise ToolError(f"{self._file.name} is blocked: {_MOST_STUCK} calls of it do not end.")
        worker = self._idle.pop() if self._idle else _Worker(self._file)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(worker.begin(work))
        except (TimeoutError, asyncio.CancelledError):
            worker.give_up()
            self._stuck.append(worker)
            raise
        finally:
            if worker.spoilt or self._closed:
                worker.jobs.put(None)
            else:
                self._idle.append(worker)

    def close(self) -> None:
        """End the threads, each when its call has ended."""
        self._closed = True
        while self._idle:
            self._idle.pop().jobs.put(None)


class _Worker:
    """A thread for one call at a time. It cannot keep the process from ending."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._cancel: Callable[[], object] = lambda: None
        self.spoilt = False  # given up, or an exit left half-done work in the event loop
        self.jobs: SimpleQueue[Callable[[asyncio.Runner], None] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._serve, name=f"plugin {file.name}", daemon=True)
        self.thread.start()

    def begin(self, work: Callable[[], Any]) -> Future[Any]:
        """The result to come. Whatever `work` raises becomes a ToolError."""
        done: Future[Any] = Future()
        context = contextvars.copy_context()

        def job(runner: asyncio.Runner) -> None:
            if not done.set_running_or_notify_cancel():
                return  # it was given up before it began
            try:
                result = context.run(work)  # not in the event loop: asyncio.run() works in plain functions
                if inspect.isawaitable(result):
                    result = runner.run(self._wait_for(result, runner), context=context)
                done.set_result(result)
            except BaseException as error:  # sys.exit() ends the call and nothing else
                self.spoilt = self.spoilt or not isinstance(error, Exception)
                if not isinstance(error, ToolError | asyncio.CancelledError):
                    own = error.with_traceback(_own_frames(error, self._file.parent))
                    log.warning("Plugin %s raised an exception", self._file.name, exc_info=own)
                done.set_exception(ToolError(describe_fault(error, self._file.parent)))

        self.jobs.put(job)
        return done

    async def _wait_for(self, result: Awaitable[Any], runner: asyncio.Runner) -> Any:
        if (task := asyncio.current_task()) is not None:
            self._cancel = lambda: runner.get_loop().call_soon_threadsafe(task.cancel)
        return await result

    def _serve(self) -> None:
        with contextlib.suppress(SystemExit, KeyboardInterrupt), asyncio.Runner() as runner:
            while (job := self.jobs.get()) is not None:
                job(runner)

    def give_up(self) -> None:
        """Cancel the call, and interrupt its thread if that does not end it."""
        self.spoilt = True
        with contextlib.suppress(RuntimeError):  # it has ended just now
            self._cancel()
        asyncio.get_running_loop().call_later(_GRACE, self._interrupt)

    def _interrupt(self) -> None:
        """A busy loop would slow down all of nanobot for ever; code in C notices when it returns."""
        if self.thread.is_alive() and self.thread.ident is not None:
            import ctypes

            thread = ctypes.c_ulong(self.thread.ident)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(SystemExit))


def describe_fault(error: BaseException, folder: Path) -> str:
    """What a plugin raised, and the line in its folder where that happened."""
    if isinstance(error, ToolError):
        return str(error)
    lines = traceback.format_exception_only(error)
    frames = traceback.extract_tb(_own_frames(error, folder))
    own = [(frame.filename, frame.lineno) for frame in frames if Path(frame.filename).parent == folder]
    if isinstance(error, SyntaxError):
        lines, own = lines[-1:], [(error.filename, error.lineno)] if error.filename else []
    place = f" ({Path(own[-1][0]).name}, line {own[-1][1]})" if own else ""
    return f"{lines[0].strip()}{place}"


def _own_frames(error: BaseException, folder: Path) -> TracebackType | None:
    """The traceback from where it enters the plugin's folder."""
    frames = error.__traceback__
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).parent != folder:
        frames = frames.tb_next
    return frames
