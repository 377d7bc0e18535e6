"""Several networks in a row; the moving image that the user gave is sampled once, by the map of all of them."""

import functools
import itertools
from collections.abc import Mapping, Sequence

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.outputs.matrices import as_prediction, field_after, is_linear, matrix_product
from regzoo.ops.fields import compose
from regzoo.ops.warping import warp


class Chain(RegistrationModel):
    """Runs networks one after the other, each on the moving image as the ones before have moved it.

    Args:
        stages: Models with a field. The first that give a matrix alone stay one matrix. One that stands there twice
            runs twice.
    """

    def __init__(self, stages: Sequence[RegistrationModel], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.stages = list(stages)
        self.invertible = all(stage.invertible for stage in stages)
        self.build()

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf`, `stages` (what each predicts), `matrix` if the first are linear, and `dense` if not all."""
        found, matrix, dense, ddf = [], None, None, None
        for stage in self.stages:
            moved = moving if ddf is None else backend.compiled(warp)(moving, ddf)
            found.append(stage.field(fixed, moved))
            # The later map is done first: it says where on the image moved so far a voxel is read.
            if dense is None and is_linear(found[-1]):
                matrix = found[-1]["matrix"] if matrix is None else matrix_product(matrix, found[-1]["matrix"])
                ddf = as_prediction(matrix, fixed.shape[1:-1])["ddf"]
                continue
            dense = found[-1]["ddf"] if dense is None else backend.compiled(compose)(dense, found[-1]["ddf"])
            ddf = dense if matrix is None else backend.compiled(field_after)(matrix, dense)
        linear = {} if matrix is None else {"matrix": matrix}
        bent = {} if matrix is None or dense is None else {"dense": dense}
        return {"ddf": ddf, "stages": found} | linear | bent

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the inverse map: the stages' inverses in the other order."""
        shape = prediction["ddf"].shape[1:-1]
        inverses = [stage.inverse(found) for stage, found in zip(self.stages, prediction["stages"], strict=True)]
        first = len([*itertools.takewhile(is_linear, prediction["stages"])])
        matrices = [each["matrix"] for each in inverses[:first]]
        dense = [each["ddf"] for each in inverses[first:]]
        bent = functools.reduce(lambda inner, outer: backend.compiled(compose)(outer, inner), dense) if dense else None
        if not matrices:
            return {"ddf": bent}
        linear = as_prediction(functools.reduce(lambda inner, outer: matrix_product(outer, inner), matrices), shape)
        if bent is None:
            return linear
        return {"ddf": backend.compiled(compose)(bent, linear["ddf"]), "dense": bent}
