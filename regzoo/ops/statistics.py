"""Means and variances of each image of a batch, by the weights of a mask; float32."""

from keras import ops

from regzoo.backend import Tensor
from regzoo.errors import invalid


def float32(x: Tensor) -> Tensor:
    """Returns a float32 tensor of any array or tensor."""
    return ops.convert_to_tensor(x, dtype="float32")


def of_one_shape(fixed: Tensor, moved: Tensor) -> tuple:
    """Returns two images or label maps as float32 tensors, of one shape (B, *S, C), since others would broadcast.

    Raises:
        InvalidError: If their shapes differ.

    Example:
        >>> [x.shape[-1] for x in of_one_shape([[[1.0], [3.0]]], [[[0.0], [2.0]]])]
        [1, 1]
    """
    fixed, moved = float32(fixed), float32(moved)
    shapes = tuple(fixed.shape), tuple(moved.shape)
    if len(shapes[0]) < 3:
        raise invalid("fixed", "shape (B, *S, C), with the channels last", shapes[0])
    if len(shapes[1]) != len(shapes[0]) or any(a != b for a, b in zip(*shapes, strict=True) if a and b):
        raise invalid("moved", f"the shape of fixed, {shapes[0]}", shapes[1])
    return fixed, moved


def mean(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Averages all but the batch axis, shape (B, *S, C) to (B,), by the weights of a mask, shape (B, *S, 1).

    Example:
        >>> x, mask = ops.convert_to_tensor([[[1.0], [3.0]]]), ops.convert_to_tensor([[[1.0], [0.0]]])
        >>> float(mean(x)[0]), float(mean(x, mask)[0])
        (2.0, 1.0)
    """
    x = float32(x)
    axes = tuple(range(1, len(x.shape)))
    if mask is None:
        return ops.mean(x, axis=axes)
    mask = float32(mask)
    return ops.sum(mask * x, axis=axes) / ops.maximum(ops.sum(mask, axis=axes) * x.shape[-1], 1e-6)


def standardised(image: Tensor, mask: Tensor | None = None) -> Tensor:
    """Gives every image mean 0 and variance 1, by the weights of a mask (B, *S, 1); a constant image becomes 0.

    Example:
        >>> ops.convert_to_numpy(standardised(ops.convert_to_tensor([[[1.0], [3.0]]])))[0, :, 0].round(4).tolist()
        [-1.0, 1.0]
    """
    image = float32(image)
    axes = tuple(range(1, len(image.shape)))

    def average(x: Tensor) -> Tensor:
        return ops.reshape(mean(x, mask), (-1, *(1,) * len(axes)))

    # Rounding of the mean, which a constant image would be scaled up to: far below this, and any contrast far above.
    rounding = 1e-7 * ops.stop_gradient(ops.max(ops.abs(image), axis=axes, keepdims=True))
    for _ in range(2):  # the second time takes away what rounding left of a large offset
        image = image - average(image)
    return image / ops.sqrt(average(ops.square(image)) + ops.square(rounding) + 1e-30)
