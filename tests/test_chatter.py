"""TensorFlow speaks while it is imported, unless regzoo.backend, which keeps that away, is what imports it."""

import ast
from pathlib import Path

import pytest

import regzoo

ROOMS = sorted(path.parent for path in Path(regzoo.__file__).parent.glob("*/__init__.py"))


def imported(path):
    """The modules that a file imports at its top level, in order."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found += [each.name for each in node.names]
        if isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{each.name}" for each in node.names]
    return found


def needs_keras(room):
    return any(name.split(".")[0] == "keras" for path in room.rglob("*.py") for name in imported(path))


@pytest.mark.parametrize("room", [room for room in ROOMS if needs_keras(room)], ids=lambda room: room.name)
def test_a_room_that_needs_keras_imports_the_backend_first(room):
    if room.name == "registration":  # candidates must not import Keras; every other way in is by register
        assert next(name for name in imported(room / "register.py") if "regzoo" in name) == "regzoo.backend"
        return
    if room.name == "training":  # recipe_data must not import Keras; every other way in is by regzoo.finetune
        assert "finetune" in regzoo._WITH_KERAS
        return
    assert imported(room / "__init__.py")[0] in ("regzoo.backend", "regzoo.backend.Tensor")
