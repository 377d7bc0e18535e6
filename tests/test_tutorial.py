"""The tutorial runs from end to end at short settings, and is committed without outputs."""

import ast
import importlib
import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="runs a notebook: pip install '.[dev]'")
FILE = Path(__file__).resolve().parent.parent / "recipes" / "tutorial.ipynb"


def notebook():
    return nbformat.read(FILE, as_version=4)


def printed(held):
    return "".join(
        output.get("text", "")
        for cell in held.cells
        for output in cell.get("outputs", ())
        if output.get("name") == "stdout"
    )


def pictures(held):
    outputs = [output for cell in held.cells for output in cell.get("outputs", ()) if "data" in output]
    return sum("image/png" in output.data for output in outputs)


def execute(monkeypatch, **environment):
    client = pytest.importorskip("nbclient", reason="runs a notebook: pip install '.[dev]'")
    monkeypatch.setenv("REGZOO_TUTORIAL_SHORT", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FILE.parent.parent), os.environ.get("PYTHONPATH", "")]))
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    held = notebook()
    client.NotebookClient(held, timeout=600, resources={"metadata": {"path": str(FILE.parent)}}).execute()
    return held


def test_the_notebook_is_committed_without_outputs():
    cells = [cell for cell in notebook().cells if cell.cell_type == "code"]
    assert len(cells) > 10
    assert [cell for cell in cells if cell.outputs or cell.execution_count] == []


def test_it_imports_what_is_there():
    """The cells themselves run only in slow tests."""
    cells = "\n".join(cell.source for cell in notebook().cells if cell.cell_type == "code")
    imported = [node for node in ast.walk(ast.parse(cells)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imported if node.module.split(".")[0] == "regzoo"]
    assert len(ours) > 10
    for node in ours:
        held = importlib.import_module(node.module)
        for each in node.names:
            if not hasattr(held, each.name):
                importlib.import_module(f"{node.module}.{each.name}")


# The client's sockets to its kernel are closed by the garbage collector, which warns.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning:zmq")
@pytest.mark.slow
def test_it_runs_on_synthetic_images_and_says_so(monkeypatch, tmp_path):
    held = execute(monkeypatch, REGZOO_DATA=tmp_path)
    text = printed(held)
    assert "SYNTHETIC image, not a CT" in text
    assert "pinned" not in text
    assert pictures(held) == 10


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning:zmq")
@pytest.mark.slow
@pytest.mark.data
def test_it_reproduces_the_pinned_numbers(monkeypatch, data_home):
    if not (data_home / "tutorial" / "headneck-ct.h5").exists():
        pytest.skip(f"no tutorial data in {data_home}")
    held = execute(monkeypatch, REGZOO_DATA=data_home)
    text = printed(held)
    assert "white 4, green 7, red 1" in text
    assert "Dice of fixed and moving label: 0.51684" in text
    assert "SSD of fixed and moving image: 32342." in text
    assert "4.0 % outside" in text
    assert "pinned: 4/7/1, 0.5168472, 32342.459 reproduced" in text
    assert "SYNTHETIC" not in text
    assert pictures(held) == 10
