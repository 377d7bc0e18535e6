"""Free-form deformation: control points of cubic B-splines, of one spacing or several that add up."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.heads import head, predictions
from regzoo.models.outputs.output import Output
from regzoo.ops.fields import bspline_field, control_positions
from regzoo.ops.filters import along_axes, interpolation_matrix
from regzoo.schema.networks import StageConfig


class FreeForm(Output):
    """The sum of B-splines; its values are displacements of control points, (B, *points, D) in voxels, a spacing."""

    @property
    def spacings(self) -> list[tuple[float, ...]]:
        """Distances between control points along each axis, in voxels."""
        return [tuple(each / step for step in self.spacing) for each in self.config.spacing]

    def prediction(self, values: Sequence, shape: Sequence[int], covered: Sequence[int] | None = None) -> dict:
        """Returns `ddf` and the values as `control`."""
        splines = [
            backend.compiled(bspline_field, shape=tuple(shape), spacing=spacing)(points)
            for points, spacing in zip(values, self.spacings, strict=True)
        ]
        return {"ddf": sum(splines[1:], splines[0]), "control": list(values)}

    def levels(self, stage: StageConfig) -> list[int]:
        """Returns the coarsest level whose voxels are not larger than the distance of control points, a spacing."""
        nearest = (math.floor(math.log2(min(spacing))) for spacing in self.spacings)
        return [min(max(level, 0), stage.backbone.deepest) for level in nearest]

    def heads(self, features: Sequence[int], levels: Sequence[int]) -> list[keras.Layer]:
        """Returns one convolution a spacing."""
        return [head(self.dims, each, self.dims, f"control{i}") for i, each in enumerate(features)]

    def read(self, heads: Sequence, features: Sequence, levels: Sequence[int], shape: Sequence[int]) -> list:
        """Samples what is predicted at the control points."""
        rows = zip(predictions(heads, features), levels, self.spacings, strict=True)
        return [
            backend.compiled(at_control_points, shape=tuple(shape), level=level, spacing=spacing)(each)
            for each, level, spacing in rows
        ]

    def weights(self, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the control points."""
        return {
            f"control{i}": (*(len(control_positions(*each)) for each in zip(shape, spacing, strict=True)), self.dims)
            for i, spacing in enumerate(self.spacings)
        }

    def carried(self, values: Sequence, shape: Sequence[int], coarser: Output) -> list:
        """Returns the same control points, in the voxels of the finer grid."""
        scale = ops.convert_to_tensor(np.divide(coarser.spacing, self.spacing).astype("float32"))
        return [ops.stop_gradient(each) * scale for each in values]


def at_control_points(field: Tensor, shape: tuple, level: int, spacing: tuple) -> Tensor:
    """Samples a prediction at a level, in voxels of full resolution, at the control points of a grid."""
    points = [control_positions(n, each) for n, each in zip(shape, spacing, strict=True)]
    # Voxel edges, not centres, coincide between levels.
    places = [(each + 0.5) / 2**level - 0.5 for each in points]
    return along_axes(field, [interpolation_matrix(x, n) for x, n in zip(places, field.shape[1:-1], strict=True)])
