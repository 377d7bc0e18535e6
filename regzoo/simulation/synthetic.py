"""A synthetic pair whose true displacement is known: for tests, and for the tutorial where its data are absent."""

import numpy as np
from scipy.ndimage import gaussian_filter

from regzoo.world.images import Image
from regzoo.world.transforms import Transform

SHAPE = (40, 56, 40)


def synthetic_pair(seed: int = 4) -> tuple[Image, Image, Image, Image, Transform]:
    """Makes (fixed, moving, fixed labels, moving labels, the true transform).

    The moving image is smooth random texture with a bright, bent body in two parts; the fixed image is the moving
    image pulled through the true transform, with other noise.
    """
    random = np.random.default_rng(seed)
    x, y, z = (np.indices(SHAPE) - (np.array(SHAPE) - 1).reshape(3, 1, 1, 1) / 2).astype("float64")
    body = ((x - 0.01 * y**2) / 6.5) ** 2 + (y / 19) ** 2 + ((z + 0.012 * y**2 - 2) / 5.5) ** 2 < 1
    labels = np.where(body, np.where(y > 3, 1, 2), 0).astype("uint8")
    texture = gaussian_filter(random.normal(size=SHAPE), 2.5)
    image = 0.8 * texture / texture.std() + 3.0 * gaussian_filter(body.astype("float64"), 0.7)
    affine = np.eye(4)
    moving, moving_labels = Image(image.astype("float32"), affine), Image(labels, affine)
    field = np.stack([gaussian_filter(random.normal(size=SHAPE), 8) for _ in range(3)], axis=-1)
    truth = Transform.from_field(2.5 * field / field.std(), moving.grid)
    fixed = truth.apply_image(moving, moving.grid, outside="edge").array
    fixed = fixed + 0.1 * random.normal(size=SHAPE)
    fixed_labels = truth.apply_labels(moving_labels, moving.grid)
    return Image(fixed.astype("float32"), affine), moving, fixed_labels, moving_labels, truth
