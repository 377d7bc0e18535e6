"""Several networks in a row; the moving image that the user gave is sampled once, by the map of all of them."""

from collections.abc import Mapping, Sequence

from regzoo import backend
from regzoo.models.base import RegistrationModel
from regzoo.models.outputs.affine import matrix_field
from regzoo.ops.fields import compose
from regzoo.ops.warping import warp


class Chain(RegistrationModel):
    """Runs networks one after the other, each on the moving image as the ones before have moved it.

    Args:
        stages: Models with a field; only the first may give a `matrix`. One that stands there twice runs twice.
    """

    def __init__(self, stages: Sequence[RegistrationModel], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.stages = list(stages)
        self.invertible = all(stage.invertible for stage in stages)
        self.build()

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `ddf`, `stages` (what each predicts) and, if the first is linear, `matrix` and `dense`."""
        found, matrix, dense, ddf = [], None, None, None
        for stage in self.stages:
            moved = moving if ddf is None else backend.compiled(warp)(moving, ddf)
            found.append(stage.field(fixed, moved))
            if "matrix" in found[-1]:
                matrix, ddf = found[-1]["matrix"], found[-1]["ddf"]
                continue
            # The later map is done first: it says where on the image moved so far a voxel is read.
            dense = found[-1]["ddf"] if dense is None else backend.compiled(compose)(dense, found[-1]["ddf"])
            ddf = dense if matrix is None else backend.compiled(_matrix_after)(matrix, dense)
        prediction = {"ddf": ddf, "stages": found}
        return prediction if matrix is None else prediction | {"matrix": matrix, "dense": dense}

    def inverse(self, prediction: Mapping[str, object]) -> dict:
        """Returns the inverse map: the stages' inverses in the other order."""
        inverses = [stage.inverse(found) for stage, found in zip(self.stages, prediction["stages"], strict=True)]
        dense = None
        for each in inverses:
            if "matrix" not in each:
                dense = each["ddf"] if dense is None else backend.compiled(compose)(each["ddf"], dense)
        if "matrix" not in prediction:
            return {"ddf": dense}
        return {"ddf": backend.compiled(compose)(dense, inverses[0]["ddf"]), "dense": dense}


def _matrix_after(matrix: object, dense: object) -> object:
    """Returns the field of `x -> A (x + dense(x)) + b`."""
    linear, shape = matrix[:, :, :-1], dense.shape[1:-1]
    turned = sum(dense[..., d : d + 1] * _row(linear[:, :, d], len(shape)) for d in range(len(shape)))
    return matrix_field(matrix, shape) + turned


def _row(vector: object, dims: int) -> object:
    return vector[(slice(None), *(None,) * dims)]
