"""Two CTs in the circle of one scanner, around which it wrote -2000: the body moved, the circle did not."""

import numpy as np
from worlds import affine

import regzoo
from regzoo.registration.scores import Side
from regzoo.registration.sides import masks_of, read_side
from regzoo.world.images import Grid, Image

GRID = Grid((34, 34, 20), affine(np.diag([3.0, 3.0, 4.0]), (-49.5, -49.5, -38)))
SHIFT = np.array([7.0, -5.0, 3.0])
CIRCLE = np.repeat((np.hypot(*np.indices((34, 34)) - 16.5) > 16.8)[..., None], 20, axis=2)


def scan(shift):
    places = GRID.coordinates() - shift
    hu = -1000 + 1000 * np.clip(2.5 - 2 * np.square(places / (30, 24, 40)).sum(-1), 0, 1)
    for middle, height in (((8, 5, 4), 500), ((-10, -4, -8), -600), ((-3, 9, 10), 300), ((2, -9, -12), -400)):
        hu = hu + height * np.exp(-np.square(places - middle).sum(-1) / 60)
    return Image(np.where(CIRCLE, -2000, hu).astype("float32"), GRID.affine)


def test_padding_is_left_out_of_the_registration_and_said():
    result = regzoo.register(scan(0), scan(SHIFT), method="rigid", loss="nmi", start="world")
    np.testing.assert_allclose(result.transform.apply_points(np.zeros((1, 3)))[0], SHIFT, atol=0.8)
    said = [each for each in result.facts["warnings"] if "padding" in each]
    assert [each.split(":")[0] for each in said] == ["fixed", "moving"]
    assert f"{100 * CIRCLE.mean():.0f} % of the voxels" in said[0]
    assert result.moved.array.min() > -1100
    assert result.facts["scores"]["after"]["ncc"] > 0.98


def test_what_is_compared_is_what_is_given_without_padding():
    sides = read_side("fixed", scan(0), None, None), Side(Image(np.ones((4, 4, 4)), np.eye(4)))
    mask = np.zeros(GRID.shape, "uint8")
    mask[8:, 4:, 2:18] = 7
    assert masks_of(sides, {}).keys() == {"fixed_mask"}
    np.testing.assert_array_equal(masks_of(sides, {})["fixed_mask"].array, ~CIRCLE)
    found = masks_of(sides, {"fixed_mask": Image(mask, GRID.affine)})["fixed_mask"]
    np.testing.assert_array_equal(found.array, (mask > 0) & ~CIRCLE)
