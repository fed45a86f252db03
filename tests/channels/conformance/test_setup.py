"""What the owner is told when a channel cannot work."""

from __future__ import annotations

import subprocess
import sys

from nanobot.providers.scripted import ScriptedProvider
from tests.channels.conformance.conftest import DRIVERS, config_for
from tests.channels.conformance.driver import Driver
from tests.channels.conftest import echo, eventually
from tests.gateway.conftest import running_gateway

_WITHOUT_THE_SDK = """
import sys
sys.modules[sys.argv[2]] = None  # as if it were not installed
from nanobot.channels.registry import load_channel
load_channel(sys.argv[1])
"""
_SDKS_LOADED = """
import sys
import nanobot.cli.gateway, nanobot.gateway.service
print([name for name in sys.argv[1:] if name in sys.modules])
"""


async def test_settings_that_cannot_work_fail_for_good_and_say_why(driver: Driver) -> None:
    for rejected in driver.rejected:
        config = config_for(driver, **rejected.settings)
        async with running_gateway(config, ScriptedProvider(echo)) as (_, gateway):
            status = gateway.channels.status[driver.channel]
            await eventually(lambda status=status: status.state == "failed")
            assert rejected.words in status.last_error


def test_a_missing_library_is_named_with_the_command_that_installs_it(driver: Driver) -> None:
    command = [sys.executable, "-c", _WITHOUT_THE_SDK, driver.channel, driver.sdk]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f'Run: pip install "nanobot-ai[{driver.channel}]"' in ended.stderr


def test_no_library_is_loaded_before_its_channel_is_enabled() -> None:
    command = [sys.executable, "-c", _SDKS_LOADED, *(driver.sdk for driver in DRIVERS)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
