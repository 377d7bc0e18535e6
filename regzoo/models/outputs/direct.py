"""Classical registration: the field comes from trainable weights instead of a network, and `fit` is the optimiser."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.models.base import RegistrationModel
from regzoo.models.outputs.affine import matrix_field
from regzoo.ops.fields import bspline_field, control_positions, integrate, resize_field
from regzoo.ops.filters import smooth
from regzoo.ops.matrices import PARAMETERS, inverse_matrix, linear_matrix
from regzoo.schema.networks import AffineConfig, DDFConfig, DVFConfig, FFDConfig


class Direct(RegistrationModel):
    """A registration of one pair: its weights are the transform, and the images only enter the loss.

    Args:
        shape: Spatial shape of the fixed image.
        spacing: Millimetres a voxel of the fixed image.
    """

    def __init__(self, shape: Sequence[int], spacing: Sequence[float], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.shape, self.spacing = tuple(shape), tuple(spacing)

    def transform_weight(self, shape: Sequence[int], name: str) -> keras.Variable:
        """Adds a weight of which zeros are the identity."""
        return self.add_weight(shape=(1, *shape), initializer="zeros", name=name, dtype="float32")


class DirectAffine(Direct):
    """A matrix about the image centre; see `matrices.linear_matrix` for its parameters."""

    invertible = True

    def __init__(self, config: AffineConfig, shape: Sequence[int], spacing: Sequence[float]) -> None:
        super().__init__(shape, spacing, name="affine")
        self.constraint = config.constraint
        self.free = self.transform_weight((PARAMETERS[config.constraint][len(shape)],), "parameters")
        self.build()

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `matrix` and its `ddf`."""
        matrix = linear_matrix(self.free.value, self.constraint, self.shape, self.spacing)
        return {"ddf": backend.compiled(matrix_field, shape=self.shape)(matrix), "matrix": matrix}

    def inverse(self, prediction: Mapping[str, object]) -> dict:
        """Returns the field of the inverse matrix."""
        matrix = inverse_matrix(prediction["matrix"])
        return {"ddf": backend.compiled(matrix_field, shape=self.shape)(matrix), "matrix": matrix}


class DirectDense(Direct):
    """A displacement or, integrated, a velocity at a resolution level, smoothed by a small Gaussian window."""

    def __init__(self, config: DDFConfig | DVFConfig, shape: Sequence[int], spacing: Sequence[float]) -> None:
        super().__init__(shape, spacing, name=config.name)
        self.steps = getattr(config, "steps", None)
        self.invertible = self.steps is not None
        coarse = [-(-n // 2**config.level) for n in shape]
        self.values = self.transform_weight((*coarse, len(shape)), "field")
        self.build()

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `ddf` and, for a dvf, `velocity`."""
        values = self._smoothed()
        if self.steps is None:
            return {"ddf": self._full(values)}
        return {"ddf": self._full(integrate(values, self.steps)), "velocity": values}

    def inverse(self, prediction: Mapping[str, object]) -> dict:
        """Returns the field of the negated velocity."""
        return {"ddf": self._full(integrate(-prediction["velocity"], self.steps))}

    def continue_from(self, coarser: "DirectDense") -> None:
        """Starts from the field of a model on a coarser grid over the same region."""
        self.values.assign(resize_field(coarser._smoothed(), self.values.shape[1:-1]))

    def _smoothed(self) -> object:
        return backend.compiled(smooth, size=_WINDOW, window="gaussian")(self.values.value)

    def _full(self, field: object) -> object:
        return backend.compiled(resize_field, shape=self.shape)(field)


_WINDOW = 5


class DirectFFD(Direct):
    """Control points of cubic B-splines, of one spacing or several that add up."""

    def __init__(self, config: FFDConfig, shape: Sequence[int], spacing: Sequence[float]) -> None:
        super().__init__(shape, spacing, name="ffd")
        self.steps = [tuple(each / step for step in spacing) for each in config.spacing]
        self.control = []
        for i, step in enumerate(self.steps):
            lattice = [len(control_positions(n, each)) for n, each in zip(shape, step, strict=True)]
            self.control.append(self.transform_weight((*lattice, len(shape)), f"control{i}"))
        self.build()

    def continue_from(self, coarser: "DirectFFD") -> None:
        """Starts from the field of a model on a coarser grid over the same region, with the same control points."""
        for control, other in zip(self.control, coarser.control, strict=True):
            scale = ops.convert_to_tensor(np.divide(coarser.spacing, self.spacing).astype("float32"))
            control.assign(ops.stop_gradient(other.value) * scale)

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `ddf`."""
        parts = [
            backend.compiled(bspline_field, shape=self.shape, spacing=step)(control.value)
            for control, step in zip(self.control, self.steps, strict=True)
        ]
        return {"ddf": sum(parts[1:], parts[0])}


DIRECT = {"affine": DirectAffine, "ddf": DirectDense, "dvf": DirectDense, "ffd": DirectFFD}
