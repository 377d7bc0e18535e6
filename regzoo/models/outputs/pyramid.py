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
from regzoo.ops.filters import blur, smooth
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

    def features(self, *images: Tensor) -> list[tuple]:
        """Returns the features of images on each level, finest first; images are padded with 0 behind."""
        batch = stacked([ops.concatenate(images, axis=0)], self.divisor)
        return [ops.split(each, len(images), axis=0) for each in self.encoder(batch)]

    def seen(self, level: int, fixed: Tensor, moving: Tensor) -> Tensor:
        """Returns what the decoder of a level sees of a pair, and behind it of the pair exchanged."""
        ways = [[fixed, moving], [moving, fixed]]
        if level >= self.correlated:
            found = correlations(fixed, moving)
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
        self.mirrored, self.rounds = output.mirrored, output.rounds
        self.smoothing, self.steepest = output.smoothing, output.steepest

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf` in voxels, `velocity` of the finest level in its voxels, and `maps` as they were before it.

        `maps` holds `a`, `a^-1`, `b` and `b^-1` in voxels of the level below, of several rounds in those of the finest,
        one behind the other: (B, *s, 4 * D).
        """
        images = (stacked([each], self.divisor) for each in (fixed, moving))  # so that voxels face those of the mirror
        images = [_both(each, ops.flip(each, axis=1)) if self.mirrored else each for each in images]
        velocity, maps, coarse = self._down_to(self.finest, self.features(*images), self.mirrored)
        ddf = self.full(self._map(self.finest, velocity, *maps[1:3]), fixed.shape[1:-1])
        return {"ddf": ddf, "velocity": velocity, "maps": ops.concatenate(coarse, axis=-1)}

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the map `x -> a(b^-1(x))`: that of the pair exchanged."""
        velocity = prediction["velocity"]
        a, _, _, b_inverse = ops.split(prediction["maps"], 4, axis=-1)
        ends = (_resized(each, velocity.shape[1:-1]) for each in (b_inverse, a))
        return {"ddf": self.full(self._map(self.finest, -velocity, *ends), prediction["ddf"].shape[1:-1])}

    def ends_at(self, level: int, features: Sequence[tuple]) -> Tensor:
        """Returns the field that the levels down to one find, in voxels of that level, without the mirror image.

        Args:
            level: The level.
            features: Of both images, as `features` gives them.
        """
        velocity, maps, _ = self._down_to(level, features, mirrored=False)
        return self._map(level, velocity, *maps[1:3])

    def _down_to(self, finest: int, features: Sequence[tuple], mirrored: bool) -> tuple[Tensor, list, list]:
        """Returns the velocity of a level, and the four maps before it, at its resolution and as they were found."""
        maps = coarse = velocity = below = None
        for level, images in _coarse_to_fine(features, finest):
            above = below
            for turn in range(self.rounds if level == self.finest else 1):
                if velocity is not None:
                    coarse = _bent(maps, *(self._half(level if turn else level + 1, way * velocity) for way in (1, -1)))
                    maps = [_resized(each, images[0].shape[1:-1]) for each in coarse]
                seen = images if maps is None else self._between(images, maps, mirrored)
                below = self.decoded(level, ops.concatenate(self.seen(level, *seen), axis=0), above)
                there, back = ops.split(below, 2, axis=0)
                velocity = self.predicted(level, there - back) / 2  # the head is linear
                velocity = _mean(velocity) if mirrored else velocity
                velocity = self._smoothed(velocity) if level == self.finest else velocity
        return velocity, maps, coarse

    def _between(self, images: Sequence[Tensor], maps: Sequence[Tensor], mirrored: bool) -> list:
        """Returns the features of both images in the middle space."""
        ends = [_both(each, _mirrored(each)) if mirrored else each for each in maps[::2]]
        return [backend.compiled(warp)(*each) for each in zip(images, ends, strict=True)]

    def _smoothed(self, velocity: Tensor) -> Tensor:
        velocity = backend.compiled(blur, sigma=self.smoothing)(velocity) if self.smoothing else velocity
        return backend.compiled(_eased, steepest=self.steepest)(velocity) if self.steepest else velocity

    def _half(self, level: int, velocity: Tensor) -> Tensor:
        """Returns `exp(v / 2)`."""
        return integrate(velocity / 2, self.steps[level])

    def _map(self, level: int, velocity: Tensor, inverse: Tensor, straight: Tensor) -> Tensor:
        """Returns `inverse`, then `exp(v)` of a level, then `straight`."""
        half = self._half(level, velocity)
        return _composed(_composed(straight, half), _composed(half, inverse))


def _mirrored(field: Tensor) -> Tensor:
    """Returns the field between the mirror images, along the first axis."""
    other = ops.flip(field, axis=1)
    return ops.concatenate([-other[..., :1], other[..., 1:]], axis=-1)


def _both(own: Tensor, mirrored: Tensor) -> Tensor:
    return ops.concatenate([own, mirrored], axis=0)


def _mean(velocity: Tensor) -> Tensor:
    """Returns the mean of a velocity and of what the mirror image, behind it, says."""
    own, other = ops.split(velocity, 2, axis=0)
    return (own + _mirrored(other)) / 2


def _eased(velocity: Tensor, steepest: float) -> Tensor:
    """Blurs a velocity by a voxel where it changes by more than so much from one voxel to the next, which may fold.

    The blur sets in by degrees, up to twice as steep; where a velocity is blurred, so is its negative.
    """
    axes, steps = range(1, len(velocity.shape) - 1), 0.0
    for axis in axes:
        after, before = _neighbours(velocity, axis)
        steps = steps + _touching(ops.sum(ops.square(after - before), axis=-1, keepdims=True), axis)
    for axis in axes:
        steps = ops.maximum(steps, _touching(ops.maximum(*_neighbours(steps, axis)), axis))
    steepness = ops.sqrt(ops.maximum(steps, 1e-6))  # whose slope at 0 is infinite
    share = smooth(ops.clip(steepness / steepest - 1, 0, 1), 3)
    return velocity + share * (blur(velocity, 1.0) - velocity)


def _neighbours(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Returns what lies behind and before each step along an axis."""
    before = (slice(None),) * axis
    return x[*before, 1:], x[*before, :-1]


def _touching(steps: Tensor, axis: int) -> Tensor:
    """Returns the larger of the two steps, at least 0, that a voxel takes part in."""
    sides = ([0, 1], [1, 0])
    padded = (ops.pad(steps, [side if each == axis else [0, 0] for each in range(len(steps.shape))]) for side in sides)
    return ops.maximum(*padded)


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
