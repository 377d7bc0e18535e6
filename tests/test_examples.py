"""The examples in the docstrings of public names are right, and there is one for each."""

import doctest
import importlib
import inspect

import pytest

import regzoo

MODULES = [
    *(
        f"regzoo.ops.{name}"
        for name in ("grids", "matrices", "warping", "fields", "filters", "descriptors", "statistics")
    ),
    *(
        f"regzoo.losses.{name}"
        for name in ("image", "multimodal", "label", "deformation", "known", "keras_loss", "objective")
    ),
    "regzoo.layers",
    *(f"regzoo.models.{name}" for name in ("base", "building", "exported", "own", "saving", "zoo")),
    *(f"regzoo.registration.{name}" for name in ("register", "evaluation", "cohort", "template")),
    "regzoo.training.finetune",
]
WITHOUT_TENSORS = [
    "regzoo.hub.lookup",
    "regzoo.points.registration",
    "regzoo.registration.candidates",
    "regzoo.registration.network_input",
    "regzoo.schema.recipe",
    *(f"regzoo.world.{name}" for name in ("images", "metrics", "transforms")),
]
SLOW = ("regzoo.models.zoo", "regzoo.registration.evaluation", "regzoo.training.finetune")
WHOLE = ("regzoo.ops.", "regzoo.losses.", "regzoo.layers", "regzoo.world.metrics")
"""Where every function and class has an example, whether it is exported or not."""
INTERNAL = {"check_names", "float32", "voxel_places"}


def held(module):
    """Returns the functions and classes that a module defines, without what decorators put around them."""
    unwrapped = {key: inspect.unwrap(value) if callable(value) else value for key, value in vars(module).items()}
    return {
        key: value
        for key, value in unwrapped.items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not key.startswith("_")
    }


def examples(module):
    """Returns the examples of a module by the name that they explain."""
    found = {}
    for key, value in held(module).items():
        for each in doctest.DocTestFinder().find(value, key, module=False, globs=vars(module)):
            if each.examples:
                found[each.name] = each
    return found


def public():
    """Returns what `regzoo` and its rooms offer to be called: where it is defined, and its name."""
    offered = {getattr(regzoo, name) for name in regzoo.__all__ if callable(getattr(regzoo, name))}
    for room in (regzoo.ops, regzoo.losses, regzoo.models):
        offered |= {getattr(room, name) for name in room.__all__ if callable(getattr(room, name))}
    for room in (regzoo.layers, regzoo.metrics):
        offered |= set(held(room).values())
    return {(each.__module__, each.__name__) for each in offered if hasattr(each, "__module__")}


def marked(name):
    marks = [pytest.mark.backend] * (name in MODULES)
    if name in SLOW:
        marks.append(pytest.mark.slow_under("jax", "tensorflow"))
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [marked(each) for each in MODULES + WITHOUT_TENSORS])
def test_examples_are_right(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "cache"))
    if name in MODULES:
        importlib.import_module("regzoo.backend")
    module = importlib.import_module(name)
    found = examples(module)
    assert found
    if name.startswith(WHOLE):
        assert held(module).keys() - found.keys() - INTERNAL == set()
    runner = doctest.DocTestRunner(verbose=False)
    for each in found.values():
        runner.run(each)
    assert runner.failures == 0


def test_every_public_name_has_an_example():
    with_one = {(name, key) for name in (*MODULES, *WITHOUT_TENSORS) for key in examples(importlib.import_module(name))}
    assert len(public()) > 60
    assert {each for each in public() - with_one if each[1] != "Any"} == set()
