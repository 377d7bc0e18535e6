"""Every loss with its settings and small inputs, for the tests that hold for all of them."""

import functools

import numpy as np
from tensors import array, run, tensor

from regzoo import losses
from regzoo.schema.losses import LOSSES as ENTRIES

KINDS = {kind: losses.named(kind) for kind in ENTRIES}
LOSSES = [(kind, name) for kind, all_ in KINDS.items() for name in all_]
SHAPES = [(7, 9), (6, 5, 7)]

VARIANTS = {
    ("image", "lncc"): [{"size": 3}, {"size": 5, "window": "gaussian"}],
    ("image", "mi"): [{}, {"num_bins": 8, "sigma_ratio": 1.5}],
    ("image", "mind"): [{"radius": 1, "dilation": 1}, {"radius": 2, "dilation": 3, "floor": 0.1}],
    ("label", "dice"): [{}, {"scales": (0, 1, 2.5)}, {"scales": (1.5,), "kernel": "cauchy"}],
    ("label", "jaccard"): [{"scales": (1,)}, {"scales": (0, 2), "kernel": "cauchy"}],
    ("label", "cross_entropy"): [{}, {"background_weight": 0.1, "scales": (0, 1)}],
    ("label", "ssd"): [{}, {"scales": (0, 1)}],
    ("deformation", "gradient"): [{}, {"norm": "l1"}],
    ("deformation", "elastic"): [{}, {"mu": 0.3, "lam": 2.0}],
    ("deformation", "folding"): [{}, {"margin": 0.5}],
    ("known", "distance"): [{}],
}
CASES = [(kind, name, settings) for kind, name in LOSSES for settings in VARIANTS.get((kind, name), [{}])]
SPACED = {"centroid", "gradient", "bending", "elastic", "distance"}


def spaced(name, settings, dims):
    """Returns the settings with anisotropic voxels for a loss that takes them."""
    return {**settings, "spacing": (2.0, 0.5, 3.0)[:dims]} if name in SPACED else settings


def value(loss, *arguments, **settings):
    return array(run(loss, *(tensor(argument) for argument in arguments), **settings))


def images(shape, seed=0):
    """Returns two images that resemble each other in part."""
    random = np.random.default_rng(seed)
    fixed = random.normal(size=shape)
    return fixed, 0.6 * fixed + 0.8 * random.normal(size=shape)


def inputs(kind, shape, seed=0):
    """Returns what a loss takes, for a batch of two: two-channel images, three soft labels, or a field of 4 voxels."""
    random = np.random.default_rng(seed)
    if kind == "image":
        return images((2, *shape, 2), seed)
    if kind == "label":
        fixed, moved = random.uniform(0.1, 0.9, size=(2, 2, *shape, 3))
        fixed[0, ..., 1] = moved[0, ..., 1] = fixed[1, ..., 2] = 0  # in neither map; in one map
        return fixed, moved
    if kind == "known":
        return tuple(random.normal(size=(2, 2, *shape, len(shape))))
    return (random.normal(size=(2, *shape, len(shape))),)


def bound(kind, name, settings, dims):
    return functools.partial(KINDS[kind][name], **spaced(name, settings, dims))
