"""Trainable: a registration of one pair, whose map comes from weights; `fit` is the optimiser."""

from collections.abc import Mapping, Sequence

from keras import ops

from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.outputs.output import Output


class Trainable(RegistrationModel):
    """A registration of one pair: its weights are the map, and the images only enter the loss.

    Args:
        output: What the weights mean; zeros are the identity.
        shape: Spatial shape of the fixed image.
    """

    def __init__(self, output: Output, shape: Sequence[int]) -> None:
        super().__init__(name=output.config.name)
        self.meaning, self.shape, self.invertible = output, tuple(shape), output.config.has_inverse
        self.free = [
            self.add_weight(shape=(1, *each), initializer="zeros", name=name, dtype="float32")
            for name, each in output.weights(self.shape).items()
        ]
        self.build()

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres a voxel of the fixed image."""
        return self.meaning.spacing

    def values(self) -> list:
        """Returns the values of the output."""
        # Copies: Keras takes TensorFlow's variables for tensors, which some of its operations fail on.
        return self.meaning.read_weights([ops.copy(each.value) for each in self.free])

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns the prediction of the output, whatever the images are."""
        return self.meaning.prediction(self.values(), self.shape)

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the inverse of the output."""
        return self.meaning.inverse(prediction)

    def continue_from(self, coarser: "Trainable") -> None:
        """Starts from a registration on a coarser grid over the same region."""
        for weight, value in zip(
            self.free, self.meaning.carried(coarser.values(), self.shape, coarser.meaning), strict=True
        ):
            weight.assign(value)
