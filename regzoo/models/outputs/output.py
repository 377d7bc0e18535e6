"""Output: one object that turns values into a map; the values are a network's, or trainable weights of one pair."""

from collections.abc import Callable, Mapping, Sequence

import keras

from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.network import Network
from regzoo.schema.networks import StageConfig
from regzoo.schema.outputs import OutputConfig

Backbone = Callable[[Sequence[int]], keras.Model]
"""Makes a network from images to a list of features at the given resolution levels."""


class Output:
    """Turns values into a map, and says its inverse if it has one.

    A subclass says `prediction`, and where the values come from: of a network by `levels`, `heads` and `read`; of
    trainable weights by `weights`, `read_weights` and `carried`. Either may be left out.

    Args:
        config: Its settings.
        dims: Spatial dimensions, 2 or 3.
        spacing: Millimetres a voxel of the images, D values.
    """

    symmetric = False
    """Whether a network's values are half of those for the pair less half of those for the pair exchanged."""

    def __init__(self, config: OutputConfig, dims: int, spacing: Sequence[float]) -> None:
        self.config, self.dims, self.spacing = config, dims, tuple(spacing)

    def prediction(self, values: Sequence, shape: Sequence[int], covered: Sequence[int] | None = None) -> dict:
        """Turns values into a map.

        Args:
            values: Tensors, such as one field (B, *s, D) at a coarser resolution.
            shape: Spatial shape of the images.
            covered: Voxels of the images that the values cover, where they go on behind the last one. None: `shape`.

        Returns:
            `ddf`, (B, *shape, D) in voxels, and what else `RegistrationModel` tells of.
        """
        raise NotImplementedError

    def inverse(self, prediction: Mapping[str, Tensor], covered: Sequence[int] | None = None) -> dict:
        """Returns the inverse map of a prediction, as a prediction, if the config's `has_inverse`; `covered` is its."""
        raise NotImplementedError

    def network(self, stage: StageConfig, backbone: Backbone) -> RegistrationModel:
        """Returns a model whose values are a network's, once.

        Args:
            stage: The network's config.
            backbone: Makes its backbone.
        """
        levels = self.levels(stage)
        return Network(self, backbone(levels), levels, 2**stage.backbone.deepest, stage.flow, name=self.config.name)

    def levels(self, stage: StageConfig) -> list[int]:
        """Returns the resolution levels whose features the heads look at."""
        return [self.config.finest, *sorted({*stage.backbone.extracted} - {self.config.finest})]

    def heads(self, features: Sequence[int], levels: Sequence[int]) -> list[keras.Layer]:
        """Returns layers, built, that look at so many features of each level."""
        raise NotImplementedError

    def read(self, heads: Sequence, features: Sequence, levels: Sequence[int], shape: Sequence[int]) -> list:
        """Returns the values that the heads find in the features of their levels, for images of a shape."""
        raise NotImplementedError

    def weights(self, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the weights by which one pair of images of a shape is registered, by their names.

        Zeros are the identity.
        """
        raise NotImplementedError

    def read_weights(self, weights: Sequence) -> list:
        """Returns the values that trainable weights stand for."""
        return list(weights)

    def carried(self, values: Sequence, shape: Sequence[int], coarser: "Output") -> list:
        """Returns weights for images of a shape that go on from the values of the same output on a coarser grid."""
        raise NotImplementedError
