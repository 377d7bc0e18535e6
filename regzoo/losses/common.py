"""What every kind of loss needs: float32 in, one value a batch item out."""

from collections.abc import Sequence

from keras import ops

from regzoo.errors import invalid


def float32(x: object) -> object:
    """Returns a float32 tensor of any array or tensor."""
    return ops.convert_to_tensor(x, dtype="float32")


def mean(x: object, mask: object | None = None) -> object:
    """Averages all but the batch axis, shape (B, *S, C) to (B,), by the weights of a mask, shape (B, *S, 1)."""
    axes = tuple(range(1, len(x.shape)))
    if mask is None:
        return ops.mean(x, axis=axes)
    return ops.sum(mask * x, axis=axes) / ops.maximum(ops.sum(mask, axis=axes) * x.shape[-1], 1e-6)


def standardised(image: object, mask: object | None = None) -> object:
    """Gives every image mean 0 and variance 1, by the weights of a mask (B, *S, 1); a constant image becomes 0."""
    axes = tuple(range(1, len(image.shape)))
    image = float32(image)

    def average(x: object) -> object:
        return ops.reshape(mean(x, mask), (-1, *(1,) * len(axes)))

    # Rounding of the mean, which a constant image would be scaled up to: far below this, and any contrast far above.
    rounding = 1e-7 * ops.stop_gradient(ops.max(ops.abs(image), axis=axes, keepdims=True))
    for _ in range(2):  # the second time takes away what rounding left of a large offset
        image = image - average(image)
    return image / ops.sqrt(average(ops.square(image)) + ops.square(rounding) + 1e-30)


def millimetres(spacing: Sequence[float] | None, dims: int) -> list[float]:
    """Returns the millimetres a voxel along each axis; None is 1 mm.

    Raises:
        ValueError: If `spacing` has not `dims` values.
    """
    spacing = [1.0] * dims if spacing is None else list(spacing)
    if len(spacing) != dims:
        raise invalid("spacing", f"{dims} values in millimetres", spacing)
    return spacing
