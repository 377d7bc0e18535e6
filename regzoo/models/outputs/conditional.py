"""Conditional segmentation: the label on the fixed image is predicted directly, without a field."""

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers, ops

from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import cropped, stacked
from regzoo.models.outputs.output import Backbone, Output
from regzoo.schema.networks import StageConfig


class Conditional(Output):
    """The label on the fixed image; there is no map."""

    def network(self, stage: StageConfig, backbone: Backbone) -> "ConditionalModel":
        """Returns a model of labels."""
        return ConditionalModel(backbone(self.levels(stage)), self.dims, 2**stage.backbone.deepest)


class ConditionalModel(RegistrationModel):
    """Predicts where the moving image's labels are on the fixed image; there is no transform.

    Args:
        backbone: Model from (B, *S, 3), fixed, moving and one moving label, to a list of one (B, *S, F).
        dims: Spatial dimensions, 2 or 3.
        divisor: What every size must be divisible by; any other size is padded with 0 and the labels cropped.

    Call arguments:
        inputs: Dictionary with `fixed` and `moving`, each (B, *S, 1), and `moving_labels`, (B, *S, L), on one grid.

    Returns:
        Dictionary with `labels`, (B, *S, L), each in [0, 1]; one label does not look at the others.

    Source: Hu et al., Conditional segmentation in lieu of image registration, 2019.
    """

    kinds = ("label",)
    takes = ("fixed", "moving", "moving_labels")
    has_field = False

    def __init__(self, backbone: keras.Model, dims: int, divisor: int) -> None:
        super().__init__(name="conditional")
        self.backbone, self.divisor = backbone, divisor
        # Not a convolution: torch has no gradient for one with a single filter on a CPU (2.13).
        self.head = layers.Dense(1, name="label", dtype="float32")
        self.head.build((None, *(None,) * dims, backbone.outputs[0].shape[-1]))
        self.build()

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> dict:
        """Returns the labels on the fixed image."""
        labels = ops.cast(inputs["moving_labels"], "float32")
        pair = [inputs["fixed"], inputs["moving"]]
        return {"labels": ops.concatenate([self._label(*pair, label) for label in _channels(labels)], axis=-1)}

    def predict_labels(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the labels on the fixed image, (B, *S, L), of a batch as `call` takes it, one after the other.

        So pairs with different numbers of labels, which are not of one shape, come to one compiled network.
        """
        each = (batch | {"moving_labels": label} for label in _channels(batch["moving_labels"]))
        found = [ops.convert_to_numpy(self.predict_on_batch(one)["labels"]) for one in each]
        return np.concatenate(found, axis=-1)

    def _label(self, fixed: Tensor, moving: Tensor, label: Tensor) -> Tensor:
        features = self.backbone(stacked([fixed, moving, label], self.divisor))
        features = features[0] if isinstance(features, list) else features  # Keras unpacks a list of one
        return cropped(ops.sigmoid(self.head(features)), fixed.shape[1:-1])

    def compared(self, inputs: Mapping[str, Tensor], prediction: Mapping[str, Tensor], labels: bool) -> dict:
        """Returns the arguments of the label losses."""
        return {"label": (inputs["fixed_labels"], prediction["labels"])}


def _channels(labels: Tensor) -> list:
    return [labels[..., i : i + 1] for i in range(labels.shape[-1])]
