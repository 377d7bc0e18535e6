"""build: a config becomes a model with new weights; what it names is looked up in the dicts of the schema."""

from collections.abc import Mapping, Sequence

import keras

from regzoo.errors import checked_spacing, invalid
from regzoo.models.base import RegistrationModel
from regzoo.models.outputs.output import Output
from regzoo.models.stages.chain import Chain
from regzoo.models.stages.coarse import Shrunk
from regzoo.models.stages.descriptors import Described
from regzoo.models.stages.nearest_matrix import NearestMatrix
from regzoo.schema.backbones import BACKBONES
from regzoo.schema.networks import ModelConfig, StageConfig
from regzoo.schema.outputs import OUTPUTS, OutputConfig
from regzoo.schema.strict import validate


def build(
    config: ModelConfig | Mapping, spacing: Sequence[float] | None = None, precision: str = "float32"
) -> RegistrationModel:
    """Builds a registration model with new weights.

    Args:
        config: Backbone, output and dimensions; a plain dict as in a recipe's `model`, or what is read from it.
        spacing: Millimetres a voxel of the network's grid, D values; 1 by default. What a config says in mm (control
            points, rigidity) depends on it.
        precision: Keras dtype policy of the convolutions; fields and losses stay in float32.

    Returns:
        The model, ready for `supervise`, `compile` and `fit`, and for `regzoo.save`.

    Raises:
        InvalidError: If a plain dict is no config; the message says where and why.

    Example:
        >>> config = {"backbone": {"name": "unet", "channels": [2, 4, 4]}, "output": {"name": "dvf"}}
        >>> model = build(config, spacing=(1.0, 1.0, 2.0))
        >>> image = keras.ops.ones((1, 16, 12, 8, 1))
        >>> tuple(model({"fixed": image, "moving": image})["ddf"].shape)
        (1, 16, 12, 8, 3)
    """
    if not isinstance(config, ModelConfig | Mapping):
        raise invalid("config", "a dict with 'backbone' and 'output'", repr(config))
    config = config if isinstance(config, ModelConfig) else validate(ModelConfig, dict(config), "config")
    spacing = (1.0,) * config.dims if spacing is None else checked_spacing(spacing, config.dims)
    model = _row(config, spacing, precision)
    model.config, model.spacing_mm = config, spacing  # what `regzoo.save` writes
    model.dims = config.dims
    return model


def _row(config: ModelConfig, spacing: tuple[float, ...], precision: str) -> RegistrationModel:
    if not config.before:
        return _stage(config, config.dims, spacing, precision)
    stages = []
    for i, stage in enumerate(config.row):
        with keras.name_scope(f"stage{i}"):
            stages.append(_stage(stage, config.dims, spacing, precision))
    return Chain(stages, name=config.output.name)


def output_of(config: OutputConfig, dims: int, spacing: Sequence[float]) -> Output:
    """Returns what turns values into a map, for images with so many dimensions and mm a voxel.

    Example:
        >>> from regzoo.schema.outputs import DVFConfig
        >>> output_of(DVFConfig(), dims=3, spacing=(1.0, 1.0, 2.0)).config.has_inverse
        True
    """
    return OUTPUTS[config.name].function()(config, dims, spacing)


def _stage(
    stage: ModelConfig | StageConfig, dims: int, spacing: tuple[float, ...], precision: str
) -> RegistrationModel:
    """Builds one network with its passes, for the resolution at which it works."""
    spacing = tuple(stage.shrink * step for step in spacing)
    network = _network(stage, dims, spacing, precision)
    name = network.name
    if stage.starts:
        network = Chain([NearestMatrix(network, stage.starts, spacing), network], name=name)
    if stage.passes > 1:
        network = Chain([network] * stage.passes, name=name)
    if stage.shrink > 1:
        network = Shrunk(network, stage.shrink, name=name)
    # Last: descriptors of finer voxels, averaged, tell more than descriptors of coarser ones.
    return Described(network, name=name) if stage.descriptor else network


def _network(
    stage: ModelConfig | StageConfig, dims: int, spacing: tuple[float, ...], precision: str
) -> RegistrationModel:
    config = stage.backbone
    settings = config.model_dump(exclude={"name", "extract_levels"})

    def backbone(levels: Sequence[int]) -> keras.Model:
        make = BACKBONES[config.name].function()
        return make(dims=dims, levels=levels, inputs=stage.inputs(dims), dtype=precision, **settings)

    return output_of(stage.output, dims, spacing).network(stage, backbone)
