"""A zoo entry that finds what is bright in an image, and heads in which that is the brain."""

import json
from pathlib import Path

import numpy as np

from regzoo import Image
from regzoo.hub import cards
from regzoo.schema.networks import ModelConfig

CONFIG = {"backbone": {"name": "unet", "channels": [2, 2], "convolutions": 1}, "output": {"name": "mask"}}
BRAIN, SCALP = 55.0, 88.0  # mm, radii


def bright_mask(folder, name="bright-mask", above=0.6):
    """Writes an entry whose network passes the intensity on, and finds what is above a share of the range."""
    from regzoo.models import build, weights

    model = build(CONFIG, (4.0, 4.0, 4.0))
    for variable in model.variables:
        value = np.zeros(variable.shape, "float32")
        if variable.path.endswith("kernel") and variable.path.startswith(("encoder0", "decoder0")):
            value[1, 1, 1, 2 if variable.path.startswith("decoder") else 0, 0] = 1  # behind what was repeated: the skip
        variable.assign(value)
    model.head.kernel.assign([[10.0], [0.0]])
    model.head.bias.assign([-10.0 * above])
    folder = Path(folder)
    folder.mkdir(parents=True)
    weights.save(folder / cards.WEIGHTS, weights.arrays(model.variables))
    (folder / cards.CONFIG).write_text(json.dumps(ModelConfig.model_validate(CONFIG).model_dump(mode="json")))
    inputs = {"spacing": (4.0, 4.0, 4.0), "shape": (48, 48, 48)}
    card = cards.Card(
        name=name, version="1", pipeline_tag="image-segmentation", input=inputs, files=cards.manifest(folder)
    )
    cards.write(folder, card, "Only for tests.")
    return folder


def head(middle=(0.0, 0.0, 20.0), skull=True):
    """Returns a head whose brain lies around a place in mm, and the brain's mask; a hole in the brain belongs to it."""
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = -96
    places = np.moveaxis(np.indices((64, 64, 48)), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    away = np.linalg.norm(places - middle, axis=-1)
    array = np.where(away < BRAIN, 200.0, np.where(away < BRAIN + 8, 15.0, np.where(away < SCALP, 100.0, 0.0)))
    if not skull:
        array[away >= BRAIN] = 0
    array[away < 12] = 0  # a ventricle
    array[..., :4][array[..., :4] > 0] = 100
    return Image(array.astype("float32"), affine), away < BRAIN
