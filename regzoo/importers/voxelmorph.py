"""VoxelMorph's networks of 2018, Keras 2 files, turned into zoo entries.

Only arrays and one JSON text are read, by h5py: Keras never sees the file, so nothing in it can run. The layers must be
wired exactly as `regzoo.models.backbones.voxelmorph` wires them. VoxelMorph's networks see the moving image first;
here, as for every backbone, the fixed image comes first, so the two input channels change places. Their fields are
what regzoo calls a ddf: pull-back, in voxels, component d along axis d.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from regzoo.errors import InvalidError, invalid
from regzoo.hub import cards
from regzoo.io.files import atomic_folder, sha256
from regzoo.io.hdf5 import opened
from regzoo.io.reading import check_file
from regzoo.io.yaml_json import parse_json
from regzoo.models import weights, zoo
from regzoo.schema.backbones import VoxelMorphConfig
from regzoo.schema.inputs import InputConfig, WindowIntensity
from regzoo.schema.networks import ModelConfig
from regzoo.schema.outputs import DDFConfig
from regzoo.schema.strict import validate

ASSUMED = (
    "The file does not say what its images were. The card's input is that of the published brain networks: T1 volumes "
    "like FreeSurfer's norm.mgz (skull stripped, intensities 0 to 255 with white matter near 110) at 1 mm, axes along "
    "L, I, A. Change it in README.md if this network was trained on something else."
)
_LIMITS = (
    ASSUMED,
    "Both images must already be aligned by an affine registration; scanner coordinates are trusted.",
    "Not scored by regzoo.",
)
_CITATION = (
    "Balakrishnan G. et al., An unsupervised learning model for deformable medical image registration, CVPR, 2018.",
    "Balakrishnan G. et al., VoxelMorph: a learning framework for deformable medical image registration, TMI, 2019.",
)


@dataclass(frozen=True)
class Network:
    """A network as it was read.

    Args:
        config: What builds it.
        shape: The grid that it was trained on, three sizes.
        arrays: Its weights, by the variable paths of the model that `config` builds.
    """

    config: ModelConfig
    shape: tuple[int, ...]
    arrays: dict[str, np.ndarray]


def import_voxelmorph(path: str | os.PathLike, output: str | os.PathLike, name: str | None = None) -> Path:
    """Writes a network as a zoo entry: card, config and weights.

    Args:
        path: Keras 2 file, such as `cvpr2018_vm2_cc.h5`.
        output: The entry's folder, new or without a model.
        name: Name of the entry; by default made of the file's name.

    Returns:
        The folder, for `regzoo.load` and `regzoo.register`.

    Raises:
        RegzooError: If the file is not a VoxelMorph network of 2018, or the folder holds a model.
    """
    path, output = Path(path), Path(output)
    if (output / cards.README).exists():
        raise InvalidError(f"{output} holds a model. Choose another --output, or remove it.")
    network = read(path)
    with atomic_folder(output) as folder:
        weights.save(folder / cards.WEIGHTS, network.arrays)
        config = json.dumps(network.config.model_dump(mode="json"), indent=2)
        (folder / cards.CONFIG).write_text(config + "\n", encoding="utf-8")
        card = _card(name or _name(path), path, network, cards.manifest(folder))
        cards.write(folder, card, f"# {card.name}\n\n{card.summary}\n")
        zoo.load(folder)  # the proof that every weight has its place
    return output


def _name(path: Path) -> str:
    return "-".join(re.findall("[a-z0-9]+", path.stem.lower()))[:64].strip("-") or "voxelmorph"


def _card(name: str, path: Path, network: Network, files: tuple[cards.FileEntry, ...]) -> cards.Card:
    inputs = InputConfig(shape=network.shape, axes="LIA", intensity=WindowIntensity(low=0, high=255), alignment="world")
    value = {
        "name": name,
        "version": "1",
        "summary": "VoxelMorph network of 2018, imported.",
        "input": inputs.model_dump(),
        "training": {"imported_from": path.name, "imported_sha256": sha256(path)},
        "limits": _LIMITS,
        "citation": _CITATION,
        "files": [file.model_dump() for file in files],
    }
    return validate(cards.Card, value, f"card of {path.name}")


def read(path: str | os.PathLike) -> Network:
    """Reads a network.

    Args:
        path: Keras 2 file, with the model's JSON and its weights.

    Returns:
        The network.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If it is no such file, or its layers differ from VoxelMorph's of 2018 in any way.
    """
    path = Path(path)
    check_file(path)
    with opened(path, "Keras 2 model in HDF5", texts=True) as file:
        layers = _layers(file, path.name)
        config = _config(layers, path.name)
        shape = tuple(layers[0].settings["batch_input_shape"][1:-1])
        return Network(config, shape, _arrays(file, layers, config, path.name))


@dataclass(frozen=True)
class _Layer:
    """A layer: its name, its class, its settings, and the layers that it reads, by their place in the list."""

    name: str
    kind: str
    settings: dict
    sources: tuple[int, ...]


def _layers(file: h5py.File, source: str) -> list[_Layer]:
    """Returns the layers in the file's order, which is the order of computation."""
    if "model_config" not in file.attrs:
        raise InvalidError(f"{source} holds weights without a model. Expected a file that Keras 2 saved by model.save.")
    text = file.attrs["model_config"]
    text = text.decode() if isinstance(text, bytes) else str(text)
    found, places = [], {}
    for i, layer in enumerate(parse_json(text, f"{source}: model_config")["config"]["layers"]):
        nodes = layer["inbound_nodes"]
        if len(nodes) > 1:
            raise InvalidError(f"{source}: layer {layer['name']} is used {len(nodes)} times; expected once.")
        sources = tuple(places[node[0]] for node in (nodes[0] if nodes else ()))
        places[layer["name"]] = i
        found.append(_Layer(layer["name"], layer["class_name"], layer["config"], sources))
    return found


def _config(layers: list[_Layer], source: str) -> ModelConfig:
    """Returns the config of the layers, if they are VoxelMorph's in every respect."""
    widths = [(layer.settings["filters"], layer.settings["strides"]) for layer in layers if layer.kind == "Conv3D"]
    encoder = [filters for filters, strides in widths if strides == [2, 2, 2]]
    decoder = [filters for filters, _ in widths[len(encoder) : -1]]
    backbone = {"name": "voxelmorph", "encoder": encoder, "decoder": decoder}
    backbone = validate(VoxelMorphConfig, backbone, f"{source}: its convolutions")
    expected = _wiring(len(encoder), len(decoder))
    if len(layers) != len(expected):
        raise invalid(f"{source}: layers", f"{len(expected)}, as in VoxelMorph's networks of 2018", len(layers))
    for layer, (kind, sources, settings) in zip(layers, expected, strict=True):
        if (layer.kind, layer.sources) != (kind, sources):
            wanted, received = (_reading(*each, layers) for each in ((kind, sources), (layer.kind, layer.sources)))
            raise invalid(f"{source}: layer {layer.name}", wanted, received)
        for key, value in settings.items():
            if not _equal(layer.settings.get(key, value), value):
                raise invalid(f"{source}: layer {layer.name}: {key}", str(value), layer.settings[key])
    return ModelConfig(dims=3, backbone=backbone, output=DDFConfig(level=0))


def _reading(kind: str, sources: Iterable[int], layers: list[_Layer]) -> str:
    names = " and ".join(layers[i].name for i in sources)
    return f"{kind} of {names}" if names else kind


def _equal(a: object, b: object) -> bool:
    """Compares settings; numbers as float32, as Keras 2 kept them."""
    return a == b or (isinstance(a, float) and np.float32(a) == np.float32(b))


_SETTINGS = {
    "Conv3D": {
        "kernel_size": [3, 3, 3],
        "padding": "same",
        "use_bias": True,
        "activation": "linear",
        "dilation_rate": [1, 1, 1],
        "data_format": "channels_last",
    },
    "LeakyReLU": {"alpha": 0.2},
    "UpSampling3D": {"size": [2, 2, 2], "data_format": "channels_last"},
    "Concatenate": {"axis": -1},
    "SpatialTransformer": {"interp_method": "linear", "indexing": "ij", "single_transform": False},
}
"""What a layer's settings must be where the file gives them."""

_PAIR = 2
"""The place of the layer that stacks the two images."""


def _wiring(encoder: int, decoder: int) -> list[tuple[str, tuple[int, ...], dict]]:
    """Returns kind, sources and settings of each layer of a network with so many convolutions."""
    found = [("InputLayer", (), {}), ("InputLayer", (), {}), ("Concatenate", (0, 1), _SETTINGS["Concatenate"])]

    def add(kind: str, *sources: int, **settings: object) -> int:
        found.append((kind, sources, _SETTINGS[kind] | settings))
        return len(found) - 1

    def steps(x: int, count: int, stride: int = 1) -> int:
        for _ in range(count):
            x = add("LeakyReLU", add("Conv3D", x, strides=[stride] * 3))
        return x

    features = [_PAIR]
    for _ in range(encoder):
        features.append(steps(features[-1], 1, stride=2))
    x = features[-1]
    for level in range(encoder, -1, -1):
        if level < encoder:
            x = add("Concatenate", add("UpSampling3D", x), features[level])
        x = steps(x, {0: decoder - encoder - 1, 1: 2}.get(level, 1))
    add("SpatialTransformer", 0, add("Conv3D", x, strides=[1, 1, 1]))
    return found


def _arrays(file: h5py.File, layers: list[_Layer], config: ModelConfig, source: str) -> dict[str, np.ndarray]:
    """Returns the weights by variable path, the fixed image's channel before the moving one's."""
    backbone, channels, found = config.backbone, [], {}
    names = [f"encoder{level + 1}_conv" for level in range(len(backbone.encoder))]
    names = iter([*names, *(f"decoder{i}_conv" for i in range(len(backbone.decoder))), "field"])
    for layer in layers:
        inputs = sum(channels[i] for i in layer.sources)
        channels.append(layer.settings["filters"] if layer.kind == "Conv3D" else inputs or 1)
        if layer.kind == "Conv3D":
            name, shape = next(names), (3, 3, 3, inputs, channels[-1])
            kernel, bias = _read(file, layer.name, (shape, shape[-1:]), source)
            (place,) = layer.sources
            if _PAIR in (place, *layers[place].sources):  # the images are its last two input channels
                kernel[:, :, :, -2:] = kernel[:, :, :, :-3:-1].copy()
            found |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
    return found


def _read(file: h5py.File, layer: str, shapes: Iterable[tuple[int, ...]], source: str) -> list[np.ndarray]:
    """Reads a layer's arrays, which must have these shapes; nothing else is read, whatever the file holds."""
    group, found = file["model_weights"][layer], []
    for name, shape in zip(group.attrs["weight_names"], shapes, strict=True):
        name = name.decode() if isinstance(name, bytes) else name
        array = group[name]
        if array.file != file or array.is_virtual or array.external:
            raise InvalidError(f"{source}: {layer}: expected an array in this file, received a link out of it.")
        if (array.shape, array.dtype) != (shape, np.float32):
            raise invalid(f"{source}: {name}", f"float32 {shape}", f"{array.dtype} {array.shape}")
        found.append(array[()])
    return found
