"""Registration models, built from a config: plain dictionaries map its names to builders."""

import math
from collections.abc import Sequence

import keras

from regzoo.models.backbones.localnet import globalnet, localnet
from regzoo.models.backbones.unet import unet
from regzoo.models.backbones.voxelmorph import voxelmorph
from regzoo.models.base import RegistrationModel
from regzoo.models.outputs.affine import AffineModel
from regzoo.models.outputs.conditional import ConditionalModel
from regzoo.models.outputs.dense import DenseModel
from regzoo.models.outputs.ffd import FFDModel
from regzoo.models.outputs.fitted import FittedModel
from regzoo.models.outputs.keypoints import KeypointsModel
from regzoo.models.stages import descriptors
from regzoo.models.stages.chain import Chain
from regzoo.models.stages.coarse import Shrunk
from regzoo.models.stages.descriptors import Described
from regzoo.schema.networks import ModelConfig, StageConfig

__all__ = ["BACKBONES", "Chain", "ConditionalModel", "RegistrationModel", "build"]

BACKBONES = {"unet": unet, "local": localnet, "voxelmorph": voxelmorph}
"""Backbones with features at every resolution level; GlobalNet has the deepest only."""


def build(config: ModelConfig, spacing: Sequence[float] | None = None, precision: str = "float32") -> RegistrationModel:
    """Builds a registration model with new weights.

    Args:
        config: Backbone, output and dimensions.
        spacing: Millimetres a voxel of the network's grid, D values; 1 by default. What a config says in mm (control
            points, rigidity) depends on it.
        precision: Keras dtype policy of the convolutions; fields and losses stay in float32.

    Returns:
        The model, ready for `supervise`, `compile` and `fit`, or for `load_weights`.
    """
    spacing = tuple(spacing or (1.0,) * config.dims)
    if not config.before:
        return _stage(config, config.dims, spacing, precision)
    stages = []
    for i, stage in enumerate((*config.before, config)):
        with keras.name_scope(f"stage{i}"):
            stages.append(_stage(stage, config.dims, spacing, precision))
    return Chain(stages, name=config.output.name)


def _stage(
    config: ModelConfig | StageConfig, dims: int, spacing: tuple[float, ...], precision: str
) -> RegistrationModel:
    """Builds one network with its passes, for the resolution at which it works."""
    network = _network(config, dims, tuple(config.shrink * step for step in spacing), precision)
    name = network.name
    if config.output.name == "fitted":
        network = FittedModel(network, config.passes, [config.shrink * step for step in spacing], name=name)
    elif config.passes > 1:
        network = Chain([network] * config.passes, name=name)
    if config.shrink > 1:
        network = Shrunk(network, config.shrink, name=name)
    # Last: descriptors of finer voxels, averaged, tell more than descriptors of coarser ones.
    return Described(network, name=name) if config.descriptor else network


def _network(
    config: ModelConfig | StageConfig, dims: int, spacing: tuple[float, ...], precision: str
) -> RegistrationModel:
    output, divisor = config.output, 2 ** (len(config.backbone.channels) - 1)
    settings = config.backbone.model_dump(exclude={"name", "extract_levels"}) | {"dims": dims, "dtype": precision}
    inputs = (2 * descriptors.channels(dims) if config.descriptor else 2) + (dims if config.flow else 0)
    if output.name == "affine":
        backbone = _GLOBAL[config.backbone.name](inputs=2, **settings)
        return AffineModel(backbone, dims, divisor, output.constraint, spacing, name="affine")
    extra = {}
    if output.name == "ffd":
        extra["spacings"] = [[each / step for step in spacing] for each in output.spacing]
        levels = [_level(each, len(config.backbone.channels) - 1) for each in extra["spacings"]]
    else:
        levels = [output.level, *sorted(set(config.backbone.extract_levels or ()) - {output.level})]
    inputs = {"conditional": 3, "keypoints": 1}.get(output.name, inputs)
    backbone = BACKBONES[config.backbone.name](levels=levels, inputs=inputs, **settings)
    if output.name == "keypoints":
        return KeypointsModel(backbone, dims, output.level, divisor, output.points, spacing, name="keypoints")
    if output.name == "conditional":
        return ConditionalModel(backbone, dims, divisor, name="conditional")
    if output.name == "ffd":
        return FFDModel(backbone, dims, levels, divisor, name="ffd", **extra)
    extra = {name: getattr(output, name) for name in ("steps", "symmetric") if hasattr(output, name)}
    return DenseModel(backbone, dims, levels, divisor, flow=config.flow, name=output.name, **extra)


def _level(spacing: Sequence[float], deepest: int) -> int:
    """Returns the coarsest level whose voxels are not larger than the distance of control points."""
    return min(max(math.floor(math.log2(min(spacing))), 0), deepest)


_GLOBAL = {"global": globalnet}
