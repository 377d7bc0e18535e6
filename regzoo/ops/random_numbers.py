"""Random numbers that are computed where they are used, from a seed each: the same under every backend."""

import math
from collections.abc import Sequence

from keras import ops

from regzoo.backend import Tensor


def uniform(seeds: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Returns numbers in [0, 1), equally often each: multiples of 2**-24.

    Args:
        seeds: Shape (N,), int32.
        stream: Numbers of another one have nothing to do with each other, for the same seed.
        shape: Shape of the numbers of each seed.

    Returns:
        Shape (N, *shape), float32.

    Example:
        >>> numbers = ops.convert_to_numpy(uniform([1, 2, 1], 0, (2,)))
        >>> (numbers[0] == numbers[2]).all().item(), (numbers[0] == numbers[1]).any().item()
        (True, False)
    """
    return ops.cast(_shifted(_bits(seeds, stream, shape), 8), "float32") * 2.0**-24


def symmetric(seeds: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Returns numbers in [-1, 1), equally often each; see `uniform`."""
    return 2 * uniform(seeds, stream, shape) - 1


def normal(seeds: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Returns numbers of a normal distribution, mean 0 and deviation 1, none beyond 4.8; see `uniform`.

    Source: Box and Muller, A note on the generation of random normal deviates, 1958.
    """
    bits = _bits(seeds, stream, shape)
    size = ops.log((ops.cast(_shifted(bits, 16), "float32") + 1) / 2**16)
    angle = ops.cast(ops.bitwise_and(bits, 0xFFFF), "float32") * (2 * math.pi / 2**16)
    return ops.sqrt(-2 * size) * ops.cos(angle)


def _bits(seeds: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Returns 32 random bits, (N, *shape), int32."""
    seeds = ops.convert_to_tensor(seeds, dtype="int32")
    keys = _mixed(_mixed(seeds) + (stream + 1))
    places = _mixed(ops.arange(math.prod(shape), dtype="int32"))
    return ops.reshape(_mixed(ops.bitwise_xor(places[None], keys[:, None])), (-1, *shape))


def _mixed(x: Tensor) -> Tensor:
    """Mixes the bits of whole numbers, int32, whose products lose what is beyond 32 bits.

    Source: Wellons, Prospecting for hash functions, 2018 (`lowbias32`).
    """
    x = ops.bitwise_xor(x, _shifted(x, 16)) * 0x7FEB352D
    x = ops.bitwise_xor(x, _shifted(x, 15)) * (0x846CA68B - 2**32)
    return ops.bitwise_xor(x, _shifted(x, 16))


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shifts bits to the right; zeros, and not the sign, come from the left."""
    return ops.bitwise_and(ops.right_shift(x, bits), 2 ** (32 - bits) - 1)
