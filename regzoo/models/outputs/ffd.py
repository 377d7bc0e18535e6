"""Free-form deformation: the network predicts control points of cubic B-splines, of one spacing or several."""

from collections.abc import Sequence

import keras

from regzoo import backend
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import head, predictions, stacked
from regzoo.ops.fields import bspline_field, control_positions
from regzoo.ops.filters import along_axes, interpolation_matrix


class FFDModel(RegistrationModel):
    """Predicts displacements of control points; their B-splines, summed over the spacings, are the field.

    Args:
        backbone: Model from (B, *S, 2) to a list of (B, *S / 2**level, F), one for each of `levels`.
        dims: Spatial dimensions, 2 or 3.
        levels: One for each of `spacings`: where its control points are predicted.
        divisor: What every size must be divisible by; any other size is padded with 0.
        spacings: Distances between control points along each axis, in voxels, D values each.
    """

    def __init__(
        self,
        backbone: keras.Model,
        dims: int,
        levels: Sequence[int],
        divisor: int,
        spacings: Sequence[Sequence[float]],
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone, self.levels, self.divisor = backbone, tuple(levels), divisor
        self.spacings = tuple(tuple(spacing) for spacing in spacings)
        features = [x.shape[-1] for x in backbone.outputs]
        self.heads = [head(dims, each, dims, f"control{i}") for i, each in enumerate(features)]
        self.build()

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `ddf` (B, *S, D) and `control`, for each spacing (B, *control points, D), in voxels."""
        shape = tuple(fixed.shape[1:-1])
        predicted = predictions(self.backbone, self.heads, stacked([fixed, moving], self.divisor))
        control, parts = [], []
        for each, level, spacing in zip(predicted, self.levels, self.spacings, strict=True):
            points = backend.compiled(_at_control_points, shape=shape, level=level, spacing=spacing)(each)
            control.append(points)
            parts.append(backend.compiled(bspline_field, shape=shape, spacing=spacing)(points))
        return {"ddf": sum(parts[1:], parts[0]), "control": control}


def _at_control_points(field: object, shape: tuple, level: int, spacing: tuple) -> object:
    """Samples a prediction at a level, in voxels of full resolution, at the control points of a grid."""
    points = [control_positions(n, each) for n, each in zip(shape, spacing, strict=True)]
    # Voxel edges, not centres, coincide between levels.
    places = [(each + 0.5) / 2**level - 0.5 for each in points]
    return along_axes(field, [interpolation_matrix(x, n) for x, n in zip(places, field.shape[1:-1], strict=True)])
