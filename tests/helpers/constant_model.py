"""Zoo entries of known behaviour: the network predicts the same displacement everywhere, or noise."""

import json
from pathlib import Path

import numpy as np

from regzoo.hub import cards
from regzoo.schema.backbones import UNetConfig
from regzoo.schema.networks import ModelConfig
from regzoo.schema.outputs import DDFConfig

SPACING, SHAPE = (2.0, 2.5, 3.0), (16, 12, 12)
SHIFT = np.array([3.0, -4.0, 2.5])  # mm; (1.5, -1.6, 0.83) voxels
CONFIG = ModelConfig(backbone=UNetConfig(channels=(2, 2), convolutions=1), output=DDFConfig(level=0))


def constant_model(
    folder,
    shift=(0.0, 0.0, 0.0),
    *,
    alignment="world",
    name="constant-ddf",
    noise=0.0,
    recipe=None,
    shape=SHAPE,
    around="image",
    strip=None,
):
    """Writes an entry whose transform is, in RAS mm, the translation by `shift` (after the alignment).

    Args:
        folder: Where to.
        shift: Millimetres.
        alignment: `"world"` or `"center"`.
        name: Name on the card.
        noise: Standard deviation of all weights; 0 gives the constant.
        recipe: Text of the entry's `recipe.yaml`.
        shape: Voxels of the network's grid.
        around: What the grid lies around.
        strip: Name of the model of masks by which heads are stripped.
    """
    from regzoo.models import build, weights

    model, random = build(CONFIG), np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(noise * random.normal(size=variable.shape).astype("float32"))
    model.heads[0].bias.assign(np.divide(shift, SPACING).astype("float32"))
    folder = Path(folder)
    folder.mkdir(parents=True)
    weights.save(folder / cards.WEIGHTS, weights.arrays(model.variables))
    (folder / cards.CONFIG).write_text(json.dumps(CONFIG.model_dump(mode="json")))
    if recipe:
        (folder / cards.RECIPE).write_text(recipe)
    inputs = {"spacing": SPACING, "shape": shape, "alignment": alignment, "around": around, "strip": strip}
    cards.write(
        folder, cards.Card(name=name, version="3", input=inputs, files=cards.manifest(folder)), "Only for tests."
    )
    return folder
