"""Makes a zoo entry of a weight file of the PyTorch prototype of the pyramid, to start a training from.

python tests/tools/convert_pyramid.py ../shared/gpu/brain-mr.safetensors runs/brain-mr-pyramid
"""

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from regzoo.hub import cards
from regzoo.io.files import atomic_folder, sha256
from regzoo.models import weights, zoo
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig

CONFIG = ModelConfig.model_validate(
    {"backbone": {"name": "pyramid"}, "output": {"name": "dvf", "level": 0, "steps": [2, 3, 4, 5, 5]}}
)
INPUTS = {
    "brain": InputConfig(spacing=(2, 2, 2), shape=(80, 96, 80)),
    "hippocampus": InputConfig(spacing=(1, 1, 1), shape=(48, 64, 48)),
}
"""The grid of each data set."""


def converted(path: Path) -> dict[str, np.ndarray]:
    """Returns the prototype's weights by the variable paths of the model that `CONFIG` builds."""
    return {_path(name): _kernel(value) for name, value in load_file(path).items()}


def _path(name: str) -> str:
    part, *numbers, kind = name.split(".")
    layer = {"encoder": "encoder{}_conv{}", "decoder": "decoder{}_conv{}", "narrow": "narrow{}", "heads": "field{}"}
    return f"{layer[part].format(*numbers)}/{'kernel' if kind == 'weight' else kind}"


def _kernel(value: np.ndarray) -> np.ndarray:
    """Brings a kernel from (out, in, *k) to (*k, in, out)."""
    return np.moveaxis(value, (0, 1), (-1, -2)) if value.ndim > 1 else value


def convert(path: Path, output: Path) -> None:
    """Writes the entry: card, config and weights."""
    with atomic_folder(output) as folder:
        weights.save(folder / cards.WEIGHTS, converted(path))
        (folder / cards.CONFIG).write_text(json.dumps(CONFIG.model_dump(mode="json"), indent=2) + "\n", "utf-8")
        card = cards.Card(
            name=f"{path.stem}-pyramid",
            version="1",
            summary="The prototype of the pyramid, converted; not scored.",
            input=INPUTS[path.stem.partition("-")[0]],
            training={"imported_from": path.name, "imported_sha256": sha256(path)},
            files=cards.manifest(folder),
        )
        cards.write(folder, card, f"# {card.name}\n\n{card.summary}\n")
        zoo.load(folder)  # the proof that every weight has its place


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    convert(options.file, options.output)
