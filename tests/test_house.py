"""What the house promises that no other tool checks."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES = 60


def lines_of(function):
    """Returns how many lines a function has, its docstring left out."""
    told = function.body[0] if ast.get_docstring(function) else None
    return function.end_lineno - function.lineno + 1 - (told.end_lineno - told.lineno + 1 if told else 0)


def test_no_function_is_long():
    long = {
        f"{path.relative_to(ROOT)}: {node.name}": lines_of(node)
        for path in (ROOT / "regzoo").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > LINES
    }
    assert not long


def test_the_map_names_every_room():
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = [path for path in (ROOT / "regzoo").iterdir() if path.name not in ("__init__.py", "__pycache__")]
    missing = {each.name for each in places if each.suffix == ".py" or each.is_dir()} - set(
        told.replace("/", " ").split()
    )
    assert not missing
