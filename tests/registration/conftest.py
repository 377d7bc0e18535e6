import pytest
from constant_model import SHIFT, constant_model

import regzoo


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo entry whose network answers every pair with the same SHIFT."""
    return constant_model(tmp_path_factory.mktemp("zoo") / "constant", SHIFT)


@pytest.fixture(scope="module")
def model(folder):
    return regzoo.load(folder)
