"""Fixtures shared by the tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_home() -> Path:
    """The folder of the real data sets; tests that ask for it are skipped where there is none."""
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    home = Path(os.environ.get("REGZOO_DATA", default))
    if not home.is_dir():
        pytest.skip(f"no real data at {home}; name its folder by REGZOO_DATA")
    return home
