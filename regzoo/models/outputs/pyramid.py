"""Models that find a map level by level, from coarse to fine, each level on features moved by the map so far."""

from collections.abc import Mapping, Sequence

from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.backbones.pyramid import Streams
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import cropped, head, stacked
from regzoo.ops.features import correlations
from regzoo.ops.fields import compose, integrate, resize_field
from regzoo.ops.warping import warp
from regzoo.schema.outputs import DVFConfig, OutputConfig


class PyramidModel(RegistrationModel):
    """Shows each image to an encoder by itself, and both images' features to a decoder on each level.

    A subclass says what a decoder's prediction does to the map so far.

    Args:
        output: Its settings.
        streams: Encoder and decoders.
        dims: Spatial dimensions, 2 or 3.
    """

    def __init__(self, output: OutputConfig, streams: Streams, dims: int) -> None:
        super().__init__(name=output.name)
        self.encoder, self.decoders, self.divisor, self.correlated = streams
        self.finest = output.finest
        features = [each.outputs[0].shape[-1] for each in self.decoders]
        self.heads = [head(dims, each, dims, f"field{i}", bias=False) for i, each in enumerate(features, self.finest)]
        self.build()

    def features(self, fixed: Tensor, moving: Tensor) -> list[tuple]:
        """Returns the features of both images on each level, finest first; images are padded with 0 behind."""
        images = stacked([ops.concatenate([fixed, moving], axis=0)], self.divisor)
        return [ops.split(each, 2, axis=0) for each in self.encoder(images)]

    def seen(self, level: int, fixed: Tensor, moving: Tensor) -> Tensor:
        """Returns what the decoder of a level sees of a pair, and behind it of the pair exchanged."""
        ways = [[fixed, moving], [moving, fixed]]
        if level >= self.correlated:
            found = backend.compiled(correlations)(fixed, moving)
            ways = [[*way, each] for way, each in zip(ways, found, strict=True)]
        return [ops.concatenate(way, axis=-1) for way in ways]

    def decoded(self, level: int, seen: Tensor, below: Tensor | None) -> Tensor:
        """Returns the decoder's features, from what it sees and from the decoder's of the level below."""
        return self.decoders[level - self.finest](seen if below is None else [seen, below])

    def predicted(self, level: int, decoded: Tensor) -> Tensor:
        """Returns the field that is read off a decoder's features."""
        return self.heads[level - self.finest](decoded)

    def full(self, field: Tensor, shape: Sequence[int]) -> Tensor:
        """Brings a field to the images' resolution and shape."""
        padded = tuple(int(-(-n // each) * each) for n, each in zip(shape, self.divisor, strict=True))
        return cropped(_resized(field, padded), shape)


class PyramidDDF(PyramidModel):
    """Adds a displacement on each level: `u` becomes `u o (id + D(F, M o u))`. It has no inverse."""

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf` (B, *S, D) in voxels."""
        ddf = below = None
        for level, (still, features) in _coarse_to_fine(self.features(fixed, moving), self.finest):
            if ddf is not None:
                ddf = _resized(ddf, features.shape[1:-1])
                features = backend.compiled(warp)(features, ddf)
            below = self.decoded(level, self.seen(level, still, features)[0], below)
            found = self.predicted(level, below)
            ddf = found if ddf is None else _composed(ddf, found)
        return {"ddf": self.full(ddf, fixed.shape[1:-1])}


class PyramidDVF(PyramidModel):
    """Finds two maps from a middle space, `a` to the fixed and `b` to the moving image; the map is `x -> b(a^-1(x))`.

    On each level the features of both images are moved to the middle space, and the decoder D says by which velocity
    `v = (D(F, M) - D(M, F)) / 2` they still differ. `b` becomes `b o exp(v / 2)`, and `a` becomes `a o exp(-v / 2)`.
    Exchanging the images negates every `v` and exchanges `a` and `b`, so it inverts the map. The inverses of both are
    made of the same parts in the other order, so nothing is inverted numerically.

    Args:
        output: Its settings, with the squarings that integrate the velocity of each level.
        streams: Encoder and decoders.
        dims: Spatial dimensions, 2 or 3.
    """

    invertible = True

    def __init__(self, output: DVFConfig, streams: Streams, dims: int) -> None:
        super().__init__(output, streams, dims)
        levels = self.finest + len(self.decoders)
        self.steps = output.steps if isinstance(output.steps, tuple) else (output.steps,) * levels

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf` in voxels, `velocity` of the finest level in its voxels, and `maps` as they were before it.

        `maps` holds `a`, `a^-1`, `b` and `b^-1` in voxels of the level below, one behind the other: (B, *s, 4 * D).
        """
        maps = velocity = below = None
        for level, pair in _coarse_to_fine(self.features(fixed, moving), self.finest):
            if velocity is not None:
                coarse = _bent(maps, *(self._half(level + 1, way * velocity) for way in (1, -1)))
                maps = [_resized(each, pair[0].shape[1:-1]) for each in coarse]
                pair = [backend.compiled(warp)(*each) for each in zip(pair, maps[::2], strict=True)]
            below = self.decoded(level, ops.concatenate(self.seen(level, *pair), axis=0), below)
            there, back = ops.split(below, 2, axis=0)
            velocity = self.predicted(level, there - back) / 2  # the head is linear
        ddf = self.full(self._whole(maps[1], velocity, maps[2]), fixed.shape[1:-1])
        return {"ddf": ddf, "velocity": velocity, "maps": ops.concatenate(coarse, axis=-1)}

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the map `x -> a(b^-1(x))`."""
        velocity = prediction["velocity"]
        a, _, _, b_inverse = ops.split(prediction["maps"], 4, axis=-1)
        a, b_inverse = (_resized(each, velocity.shape[1:-1]) for each in (a, b_inverse))
        return {"ddf": self.full(self._whole(b_inverse, -velocity, a), prediction["ddf"].shape[1:-1])}

    def _half(self, level: int, velocity: Tensor) -> Tensor:
        """Returns `exp(v / 2)`."""
        return integrate(velocity / 2, self.steps[level])

    def _whole(self, inverse: Tensor, velocity: Tensor, straight: Tensor) -> Tensor:
        """Returns `inverse`, then `exp(v)` of the finest level, then `straight`."""
        half = self._half(self.finest, velocity)
        return _composed(_composed(straight, half), _composed(half, inverse))


def _bent(maps: Sequence[Tensor] | None, plus: Tensor, minus: Tensor) -> list:
    """Returns `a o exp(-v / 2)` and `b o exp(v / 2)`, each with its inverse behind it."""
    if maps is None:
        return [minus, plus, plus, minus]
    a, a_inverse, b, b_inverse = maps
    return [_composed(a, minus), _composed(plus, a_inverse), _composed(b, plus), _composed(minus, b_inverse)]


def _composed(outer: Tensor, inner: Tensor) -> Tensor:
    return backend.compiled(compose)(outer, inner)


def _resized(field: Tensor, shape: Sequence[int]) -> Tensor:
    return field if tuple(field.shape[1:-1]) == tuple(shape) else backend.compiled(resize_field, shape=shape)(field)


def _coarse_to_fine(features: Sequence[tuple], finest: int) -> list[tuple]:
    """Returns each level and the features of both images on it."""
    return list(enumerate(features))[: finest - 1 if finest else None : -1]
