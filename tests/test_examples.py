"""The examples in the docstrings of public functions are right, and there is one for each."""

import doctest
import importlib
import inspect

import pytest

MODULES = [
    *(
        f"regzoo.ops.{name}"
        for name in ("grids", "matrices", "warping", "fields", "filters", "descriptors", "statistics")
    ),
    *(f"regzoo.losses.{name}" for name in ("image", "multimodal", "label", "deformation", "known")),
]
WITHOUT_TENSORS = ["regzoo.world.metrics"]
INTERNAL = {"check_names", "float32", "voxel_places"}


@pytest.mark.parametrize(
    "name", [*(pytest.param(each, marks=pytest.mark.backend) for each in MODULES), *WITHOUT_TENSORS]
)
def test_examples_of_public_functions(name):
    importlib.import_module("regzoo.backend")
    module = importlib.import_module(name)
    tests = {each.name.rpartition(".")[2]: each for each in doctest.DocTestFinder().find(module) if each.examples}
    public = {
        key
        for key, value in inspect.getmembers(module, inspect.isfunction)
        if value.__module__ == name and not key.startswith("_")
    }
    assert public - set(tests) - INTERNAL == set()
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests.values():
        runner.run(test)
    assert runner.failures == 0
