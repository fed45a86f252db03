"""How the whole suite is run."""

import os

import pytest
from hypothesis import settings

# How long an example takes says something about the machine. All else is as hypothesis has it, also in CI.
settings.register_profile("no deadline", settings(), deadline=None)
settings.load_profile("no deadline")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """More workers than processors: half of the time, tests wait for clocks and for other processes."""
    return min(2 * (os.cpu_count() or 1), 16)
