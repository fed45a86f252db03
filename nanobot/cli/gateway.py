"""`nanobot gateway`: run until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket

from nanobot import __version__, paths
from nanobot.app import App, open_app
from nanobot.config.schema import Config
from nanobot.errors import ProviderError
from nanobot.gateway import Gateway
from nanobot.terminal.options import load_and_warn
from nanobot.terminal.screen import clean

log = logging.getLogger(__name__)

_QUIET = 60.0  # seconds in which the same trouble is not logged again
_LONGEST_STOP = 10  # seconds after which the process ends in any case; what it left undone is resumed


def run_gateway(port: int | None = None, *, verbose: bool = False) -> int:
    """Serve until SIGTERM (0) or SIGINT (130), on gateway.port if `port` is None. Raises NanobotError."""
    _start_logging(verbose)
    config = load_and_warn().config
    if port is not None:
        config.gateway.port = port
    return asyncio.run(_run(config))


async def _run(config: Config) -> int:
    stop = _Stop()
    try:
        async with open_app(config) as app:
            await _announce(app)
            gateway = Gateway(app, http=True, standing_by=_ready)
            await gateway.run(stop.requested, _ready)
    except asyncio.CancelledError:
        log.warning("Stopped at once: what was not finished is resumed by the next gateway")
    return 130 if stop.signal == signal.SIGINT else 0


class _Stop:
    """The first SIGTERM or SIGINT asks for a clean end, the second one cancels the task, the third kills."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.signal = 0
        self._task = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled, number)

    def _signalled(self, number: int) -> None:
        if self.signal and self._task:
            self._task.cancel()
            for wanted in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().remove_signal_handler(wanted)
            return
        self.signal = number
        self.requested.set()
        signal.alarm(_LONGEST_STOP)
        notify_systemd("STOPPING=1")


async def _announce(app: App) -> None:
    log.info("nanobot %s serves %s", __version__, paths.home())
    try:
        resolution, _ = await app.models.get(app.assistant.default_model)
        log.info("Model %s, provider %s", resolution.model, resolution.provider_name)
    except ProviderError as error:
        log.error("Nothing can be answered yet. %s", error)
    await app.tools.refresh()  # now, so that the log says at once what is wrong with a plugin
    channels = app.config.channels.enabled()
    if channels:
        log.info("Channels: %s", ", ".join(channels))
    else:
        log.warning(
            "No channel is enabled, so nobody can write to nanobot; schedules run all the same. "
            'Enable one in %s, for example channels.telegram with "enabled": true, and start again.',
            paths.config_file(),
        )


def _ready() -> None:
    notify_systemd("READY=1")


def notify_systemd(state: str) -> None:
    """Tell systemd how the service is doing (sd_notify(3)); elsewhere nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # Linux's abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(state.encode(), address)
    except OSError as error:
        log.warning("systemd cannot be told %s: %s", state, error)


class _OneLine(logging.Formatter):
    """Further lines of an event are indented: no text from outside can look like an event."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record)).replace("\n", "\n    ")


class OncePerMinute(logging.Filter):
    """What stays wrong until somebody helps is logged once a minute, however often it is met."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        event, now = (record.name, record.getMessage()), record.created
        self._said = {key: at for key, at in self._said.items() if 0 <= now - at < _QUIET}
        return self._said.setdefault(event, now) == now


def _start_logging(verbose: bool) -> None:
    """Our own events and the warnings of others; libraries print addresses that contain tokens."""
    handler = logging.StreamHandler()
    handler.addFilter(OncePerMinute())
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("nanobot").setLevel(logging.DEBUG if verbose else logging.INFO)
