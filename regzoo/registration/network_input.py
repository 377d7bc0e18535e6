"""network_input: the arrays that a network sees of two images, as training and `register` see them. No Keras."""

from collections.abc import Mapping, Sequence

import numpy as np

from regzoo.errors import invalid
from regzoo.registration.sides import read_images, read_side
from regzoo.schema.inputs import InputConfig
from regzoo.schema.strict import validate
from regzoo.world.images import Source
from regzoo.world.labels import shared_labels
from regzoo.world.views import to_batch, view


def network_input(
    fixed: Source,
    moving: Source,
    input: InputConfig | Mapping[str, object],
    *,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    labels: Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
) -> dict[str, np.ndarray]:
    """Returns two images on a network's grid, in its axes and intensities: what `fit` and the network itself take.

    Args:
        fixed: File, `Image`, nibabel image or array.
        moving: The same.
        input: The grid and the intensities, as in a recipe's or a card's `input`: `{"shape": (48, 64, 48), "spacing":
            (1.0, 1.0, 1.0)}`; or `regzoo.load(name).card.input`.
        fixed_labels: Label map on the fixed image's grid, where an array is taken to lie.
        moving_labels: The same on the moving image's grid.
        labels: Which labels, one channel each, to be named for several pairs; None: those that both images have.
        spacing: Millimetres along the axes of images that are arrays, which run along R, A, S.

    Returns:
        `fixed` and `moving`, (1, *S, 1), float32 in [0, 1]; of a 2-D network (K, *S, 1), each slice a pair. With labels
        also `fixed_labels` and `moving_labels`, (1, *S, L). Several pairs: `np.concatenate` of each.

    Raises:
        RegzooError: If an input cannot be used.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> image = np.random.default_rng(0).random((24, 20, 16))
        >>> pair = regzoo.network_input(image, image, {"shape": (16, 16, 16), "spacing": (2, 2, 2)}, spacing=(1, 1, 1))
        >>> {name: array.shape for name, array in pair.items()}
        {'fixed': (1, 16, 16, 16, 1), 'moving': (1, 16, 16, 16, 1)}
    """
    if not isinstance(input, InputConfig | Mapping):
        raise invalid("input", "a dict such as {'shape': (64, 64, 64), 'spacing': (2.0, 2.0, 2.0)}", repr(input))
    config = input if isinstance(input, InputConfig) else validate(InputConfig, dict(input), "input")
    given = {"fixed": fixed_labels, "moving": moving_labels}
    if len({each is None for each in given.values()}) > 1:
        raise invalid("labels", "fixed_labels and moving_labels", "one of them")
    if labels is not None and (fixed_labels is None or isinstance(labels, int)):
        raise invalid("labels", "values such as [1, 2], of fixed_labels and moving_labels", labels)
    images = zip(given, read_images(fixed, moving, spacing), strict=True)
    sides = {name: read_side(name, image, given[name]) for name, image in images}
    wanted = list(labels or ())
    if fixed_labels is not None and not wanted:
        wanted = shared_labels(*(side.labels for side in sides.values()))
        if not wanted:
            raise invalid("labels", "a label that both images have", "none")
    found, grid = {}, None
    for name, side in sides.items():
        seen = view(side.image, config, beside=grid, labels=side.labels, values=wanted)
        grid = grid or seen.grid
        found[name] = to_batch(seen.image, len(config.shape)).astype("float32")
        if wanted:
            found[f"{name}_labels"] = to_batch(seen.channels(range(len(wanted))), len(config.shape))
    return found
