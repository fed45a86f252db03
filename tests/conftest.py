"""How the whole suite is run."""

import os

import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """More workers than processors: half of the time, tests wait for clocks and for other processes."""
    return min(2 * (os.cpu_count() or 1), 16)
