"""What a registration by optimisation looks at."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regzoo.classical.pyramid import Pair
from regzoo.errors import invalid, unknown
from regzoo.schema.losses import LOSSES
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

IMAGE_LOSSES = LOSSES["image"].keys()


@dataclass(frozen=True, eq=False)
class Guidance:
    """What an optimisation compares, where, and for how long.

    Args:
        loss: Image loss, one of `IMAGE_LOSSES`.
        iterations: Most steps on each level of the pyramid; a level ends early once its loss no longer falls.
        fixed_mask: Label map on the fixed image's grid; only what is not 0 counts. The windows of `lncc` see half their
            width beyond it.
        moving_mask: The same on the moving image's grid.
        labels: Labels of the fixed and of the moving image, one channel each, in [0, 1]; their Dice loss then counts
            as much as the images do.

    Raises:
        InvalidError: If the loss is unknown, `iterations` is below 1 or a mask is empty.
    """

    loss: str = "lncc"
    iterations: int = 100
    fixed_mask: Image | None = None
    moving_mask: Image | None = None
    labels: tuple[Image, Image] | None = None

    def __post_init__(self) -> None:
        if self.loss not in IMAGE_LOSSES:
            raise unknown("image loss", self.loss, IMAGE_LOSSES)
        if self.iterations < 1:
            raise invalid("iterations", "at least 1", self.iterations)
        for name, mask in self.masks.items():
            if not np.any(mask.array):
                raise invalid(name, "a mask with something inside", "only 0")

    @property
    def masks(self) -> dict[str, Image]:
        """The masks that there are."""
        both = {"fixed_mask": self.fixed_mask, "moving_mask": self.moving_mask}
        return {name: mask for name, mask in both.items() if mask is not None}

    @property
    def objective(self) -> Mapping[str, Mapping[str, Mapping]]:
        """Image and label losses."""
        return {"image": {self.loss: {}}} | ({"label": {"dice": {}}} if self.labels else {})

    def pair(self, fixed: Image, moving: Image, start: Transform) -> Pair:
        """Returns both images, which `start` lays on each other, with what says more of them."""
        masks = self.masks
        if self.moving_mask is None and not LOSSES["image"][self.loss].config.skips_flat:
            masks["moving_mask"] = Image(np.ones(moving.shape, "uint8"), moving.affine)
        if len(masks) == 2:
            self._check_meeting(*masks.values(), start)
        return Pair.of(fixed, moving, masks, self.labels, start)

    def _check_meeting(self, fixed: Image, moving: Image, start: Transform) -> None:
        """Refuses masks that are nowhere on each other: nothing would be compared, and the start come out as it is."""
        there = start.apply_image(Image((moving.array != 0).astype("float32"), moving.affine), fixed.grid)
        if not np.any((there.array > 0) & (fixed.array != 0)):
            names = " and ".join(self.masks) or "moving"
            advice = "Compare masks and images in a viewer, or choose another alignment."
            raise invalid(names, "a place of the fixed image that both leave to compare at the start", "none", advice)
