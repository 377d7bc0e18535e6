"""The hints are right: mypy passes on a script that uses every public name, and finds each wrong use in it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import regzoo

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).parent / "typed_use.py"


def used(tree):
    """Returns the dotted names under `regzoo` in a program: `ops.warp`, `register`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            parts, at = [], node
            while isinstance(at, ast.Attribute):
                parts, at = [at.attr, *parts], at.value
            if isinstance(at, ast.Name) and at.id == "regzoo":
                found.add(".".join(parts))
    return found


def public():
    """Returns the names of `regzoo`, and those in its rooms."""
    rooms = {name for name in regzoo.__all__ if hasattr(getattr(regzoo, name), "__path__") or name in FILES}
    inside = {f"{room}.{name}" for room in rooms - FILES for name in getattr(regzoo, room).__all__}
    files = {
        f"{room}.{name}"
        for room in FILES
        for name, value in vars(getattr(regzoo, room)).items()
        if callable(value) and value.__module__ == getattr(regzoo, room).__name__ and not name.startswith("_")
    }
    return set(regzoo.__all__) | inside | files


FILES = {"layers", "metrics"}
"""Rooms that are one file; what is public in them is what they define."""


def test_every_public_name_is_in_the_script():
    assert public() - used(ast.parse(SCRIPT.read_text(encoding="utf-8"))) == set()


def test_mypy_passes_on_the_script():
    pytest.importorskip("mypy", reason="mypy comes with regzoo[dev]")
    # As for a user, whose regzoo is not in the folder that is checked: what is inside functions of it is not looked at.
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(SCRIPT)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=os.environ | {"MYPYPATH": str(ROOT)}
    )
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["Success: no issues found in 1 source file"], 0)
