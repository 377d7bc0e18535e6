"""Thin Keras layers around the functions that a network needs; float32 also under a mixed precision policy."""

from collections.abc import Sequence

import keras

from regzoo.backend import Tensor
from regzoo.ops import fields, warping
from regzoo.ops.warping import Boundary, Method


@keras.saving.register_keras_serializable("regzoo")
class Warp(keras.layers.Layer):
    """Moves an image by a displacement field: `moved(x) = image(x + ddf(x))`.

    Args:
        boundary: Value outside the image, `"edge"` or `"zero"`.
        method: `"linear"`, or `"nearest"` for labels.

    Raises:
        InvalidError: If one of them is unknown.

    Call arguments:
        inputs: `(image, ddf)`, shapes (B, *S_moving, C) and (B, *S_fixed, D), in voxels. Returns (B, *S_fixed, C).

    Example:
        >>> image = keras.ops.reshape([0.0, 10.0, 20.0], (1, 3, 1))
        >>> moved = Warp()([image, keras.ops.ones((1, 3, 1))])  # each voxel shows its neighbour
        >>> keras.ops.convert_to_numpy(moved).ravel().tolist()
        [10.0, 20.0, 20.0]
    """

    def __init__(
        self, boundary: Boundary = "edge", method: Method = "linear", dtype: object = "float32", **kwargs: object
    ) -> None:
        super().__init__(dtype=dtype, **kwargs)
        warping.check_names(boundary, method)
        self.boundary, self.method = boundary, method

    def call(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the moved image."""
        image, ddf = inputs
        return warping.warp(image, ddf, self.boundary, self.method)

    def compute_output_shape(self, input_shape: Sequence[tuple]) -> tuple:
        """Returns the field's shape with the image's channels."""
        return (*input_shape[1][:-1], input_shape[0][-1])

    def get_config(self) -> dict:
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "boundary": self.boundary, "method": self.method}


@keras.saving.register_keras_serializable("regzoo")
class Integrate(keras.layers.Layer):
    """Integrates a stationary velocity field over unit time by scaling and squaring.

    Args:
        steps: Number of squarings.

    Call arguments:
        velocity: Shape (B, *S, D), in voxels per unit time. Returns a displacement field of the same shape.

    Example:
        >>> ddf = Integrate(steps=5)(0.5 * keras.ops.ones((1, 4, 4, 2)))  # the same velocity everywhere
        >>> keras.ops.convert_to_numpy(ddf)[0, 1, 2].tolist()
        [0.5, 0.5]
    """

    def __init__(self, steps: int = 7, dtype: object = "float32", **kwargs: object) -> None:
        super().__init__(dtype=dtype, **kwargs)
        self.steps = steps

    def call(self, velocity: Tensor) -> Tensor:
        """Returns the displacement field."""
        return fields.integrate(velocity, self.steps)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of the velocity."""
        return input_shape

    def get_config(self) -> dict:
        """Returns what rebuilds the layer."""
        return {**super().get_config(), "steps": self.steps}
