"""Results of registrations of known content, for what is drawn of them."""

import numpy as np
from worlds import affine, blobs

from regzoo.registration.results import Result
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SCORES = {"ncc": 0.5, "mean_dice": 0.25, "tre": {"mean": 3.0, "sd": 1.0, "max": 4.0}}
FOUND = (2.5, 1.5, 2.0)  # mm


def facts(**changes):
    """What `register` tells, as far as it is shown."""
    return {
        "model": {"name": "constant-ddf", "version": "3", "sha256": "0" * 64, "backend": "torch"},
        "start": "world",
        "date": "2026-01-02T03:04:05+00:00",
        "inputs": {
            "fixed": {"file": "a.nii.gz", "sha256": "1" * 64},
            "moving": {"file": "b.nii.gz", "sha256": "2" * 64},
        },
        "versions": {"regzoo": "0.1.0"},
        "seconds": {"network": 1.5},
        "scores": {"before": SCORES, "after": SCORES | {"ncc": 0.75}},
        "jacobian": {"folds": 0.0, "sdlogj": 0.0, "min": 1.0, "max": 1.0},
        "warnings": [],
    } | changes


def result(grid, labels=True, warnings=()):
    """A registration that found half of a shift by (5, 3, 4) mm."""
    moving = blobs(Grid(grid.shape, grid.affine))
    fixed = Transform.linear(affine(np.eye(3), (5, 3, 4))).apply_image(moving, grid)
    transform = Transform.from_field(np.broadcast_to(np.float32(FOUND), (*grid.shape, 3)), grid)
    maps = [Image((image.array > 0.4).astype("uint8"), grid.affine) if labels else None for image in (fixed, moving)]
    return Result(
        fixed=fixed,
        moving=moving,
        moved=transform.apply_image(moving, grid),
        transform=transform,
        start=Transform.identity(grid),
        fixed_labels=maps[0],
        moving_labels=maps[1],
        moved_labels=maps[1] and transform.apply_labels(maps[1], grid),
        facts=facts(warnings=list(warnings)),
    )
