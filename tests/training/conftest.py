import shutil
from pathlib import Path

import pytest
import tiny_run

from regzoo.training.finetune import finetune


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The folder of the tiny data set."""
    return tiny_run.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def whole(home, tmp_path_factory):
    """A run of three epochs that nothing interrupted."""
    return finetune(tiny_run.recipe(), tmp_path_factory.mktemp("runs") / "whole", home)


@pytest.fixture
def own_data(home, tmp_path):
    """A copy of the data that a test may change."""
    return Path(shutil.copytree(home, tmp_path / "data"))
