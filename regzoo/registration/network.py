"""Registration by a network: views of a pair in, a transform in mm, or predicted labels, out."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from keras import ops

from regzoo import backend, hub
from regzoo.backend import Tensor
from regzoo.errors import InvalidError, invalid
from regzoo.models import RegistrationModel, zoo
from regzoo.registration.candidates import misfits
from regzoo.registration.expected.evidence import Asked, lncc_residual
from regzoo.registration.expected.passes import Remembered, differences, mirror_gain, remaining
from regzoo.registration.orientation import mirrored, shows_inside, turned_start
from regzoo.registration.scores import Side, unscored
from regzoo.registration.sides import check_overlap, open_geometry, twins
from regzoo.registration.starts import better, found_start
from regzoo.schema.card import Card
from regzoo.world.alignment import Start, aligned
from regzoo.world.images import Grid, Image
from regzoo.world.labels import present
from regzoo.world.lungs import lung_mask
from regzoo.world.matrices import embedded
from regzoo.world.resampling import resample
from regzoo.world.transforms import Transform
from regzoo.world.views import View, from_batch, spatial_field, start_matrix, to_batch, view

_PLACES = 16  # along each axis of a network's grid, at which is asked what an image shows
_SHOWN = 0.8
"""Hippocampi keep their Dice with a tenth of the moving image cut off, and lose up to 0.3 with a quarter."""


class NetworkPair:
    """Both sides of a pair and the network's views of them."""

    def __init__(
        self,
        model: RegistrationModel,
        fixed: Side,
        moving: Side,
        start: Start | None,
        masks: Mapping[str, Image],
    ) -> None:
        """Sees both sides.

        Args:
            model: The network.
            fixed: Fixed side.
            moving: Moving side.
            start: How they lie at the start, as in `register`; None: as the model was trained.
            masks: `fixed_mask` and `moving_mask`, where there are: the lungs, for a network that looks around them.

        Raises:
            InvalidError: If an image cannot be seen so.
        """
        plain = {"alignment": start} if start in ("center", "world") else {}
        self.inputs = model.card.input.model_copy(update=plain)
        self.fixed, self.moving = fixed, moving
        self.card, self.predict = model.card, Remembered(model.predict_on_batch)
        self.lungs = masks.get("fixed_mask")
        """The fixed image's lungs, for a network that looks at them."""
        if self.inputs.around == "lungs" and self.lungs is None:
            self.lungs = self._named("fixed", fixed.image, lung_mask)
        self.fixed_view = self._view("fixed", fixed.image, lungs=self.lungs)
        seen = {"lungs": masks.get("moving_mask")}
        self.labels = []
        if not model.has_field and moving.labels is not None:  # the only one that looks at them
            self.labels = present(moving.labels)
            seen |= {"labels": moving.labels, "values": self.labels}
        self.moving_view = self._view("moving", moving.image, beside=self.grid, **seen)
        self.started, matrix = self.inputs.alignment, start_matrix(self.grid, self.moving_view.grid)
        """How they lay at the start."""
        if start not in (None, "center", "world"):
            found, laid = self._found(start, matrix)
            if found != self.started:
                self.started, matrix = found, laid
                # On the fixed image's grid as the start lays it: what the network adds counts from there.
                self.inputs = self.inputs.model_copy(update={"alignment": "world"})
                beside = Grid(self.grid.shape, matrix @ self.grid.affine)
                self.moving_view = self._view("moving", moving.image, beside=beside, **seen)
        check_overlap(fixed.image, moving.image, self.started)
        self.start = Transform.linear(matrix, fixed.image.grid)

    def _found(self, how: Start, usual: np.ndarray) -> tuple[str, np.ndarray]:
        """Returns name and matrix of a start that is more than the model's own, or of that."""
        fixed, moving = self.fixed.image, self.moving.image
        if self.dims == 2:
            if how == "auto":
                return self.started, usual
            raise invalid("start", "'auto', 'center' or 'world', for a 2-D model", repr(how))
        if how == "affine":
            return how, _affine(self.card, self.fixed, self.moving)
        if how in ("auto", "rigid"):
            return found_start(fixed, moving, how, (self.started, usual))
        return how, aligned(fixed, moving, how).matrix

    def _view(self, name: str, image: Image, **given: object) -> View:
        return self._named(name, image, lambda each: view(each, self.inputs, **given))

    @staticmethod
    def _named(name: str, image: Image, seen: Callable[[Image], object]) -> object:
        try:
            return seen(image)
        except InvalidError as error:
            where = f"{name}, {image.file.name}" if image.file else name
            raise InvalidError(f"{where}: {error}") from error

    @property
    def grid(self) -> Grid:
        """The network's grid on the fixed image."""
        return self.fixed_view.grid

    @property
    def dims(self) -> int:
        """2 for a network of slices."""
        return len(self.inputs.shape)

    def batch(self) -> dict[str, np.ndarray]:
        """Returns both images as the network sees them; for a 2-D one, every slice is a pair."""
        views = {"fixed": self.fixed_view, "moving": self.moving_view}
        return {name: to_batch(seen.image, self.dims) for name, seen in views.items()}

    @functools.cached_property
    def against(self) -> list[str]:
        """What of the images is not as the model knows it, in sentences."""
        fixed, moving = self.fixed.image, self.moving.image
        back = np.linalg.inv(self.start.matrix)
        laid = moving if self.started in ("center", "world") else replace(moving, affine=back @ moving.affine)
        return misfits(self.card, fixed, moving) + turned_start(self.card, fixed, laid) + self._cut_off()

    def _cut_off(self) -> list[str]:
        """Says that the moving image, as it starts, shows too little of what the network sees of the fixed one."""
        places = self.grid.coordinates()[tuple(slice(None, None, max(1, n // _PLACES)) for n in self.grid.shape)]
        places = places[self.fixed.image.grid.covers(places)]
        shown = self.moving.image.grid.covers(self.start.apply_points(places))
        if not shown.size or shown.mean() >= _SHOWN:
            return []
        return [
            f"moving: shows {100 * shown.mean():.0f} % of what the fixed image shows, as they lie at the start; beyond "
            f"it the result is a guess, and near its border {self.card.name} may be wrong."
        ]

    def facts(self, model: RegistrationModel) -> dict:
        """Returns what is known of a registration by a network before it is scored."""
        sides = self.fixed, self.moving
        return {
            "model": model_facts(model),
            "start": self.started,
            "warnings": open_geometry(*sides) + twins(*sides) + unscored(*sides) + self.against,
        }


def network_pair(
    model: RegistrationModel, fixed: Side, moving: Side, start: Start | None, masks: Mapping[str, Image]
) -> NetworkPair:
    """Sees a pair as `NetworkPair` does; a start that was found for a linear network has to lead to a better place.

    What a rigid search finds may match better than the network's own start, and less well than what the network makes
    of that.
    """
    pair = NetworkPair(model, fixed, moving, start, masks)
    config = getattr(model, "config", None)  # a network of the user's own has none
    is_linear = config is not None and config.row[-1].output.is_linear
    if start != "auto" or not is_linear or pair.started == pair.card.input.alignment:
        return pair
    try:
        usual = NetworkPair(model, fixed, moving, None, masks)
    except InvalidError:  # the images do not meet there
        return pair
    found, own = (undoubted_transform(each).matrix for each in (pair, usual))
    return pair if better(fixed.image, moving.image, found, own) else usual


def _affine(card: Card, fixed: Side, moving: Side) -> np.ndarray:
    """Returns the matrix (4, 4) in mm by which an affine network for the card's anatomy lays two images.

    Raises:
        InvalidError: If the zoo has none.
    """
    for entry in hub.models():
        same = (entry.card.anatomy, entry.card.modality) == (card.anatomy, card.modality)
        if same and entry.own() is None and entry.config().row[-1].output.is_linear:
            pair = NetworkPair(zoo.load(entry), fixed, moving, None, {})
            return undoubted_transform(pair).matrix
    names = "'auto', 'center', 'world', 'mass', 'moments' or 'rigid'"
    raise invalid("start", f"{names}, since the zoo has no affine network for {card.anatomy}", "'affine'")


def predicted_transform(pair: NetworkPair) -> tuple[Transform, list[str]]:
    """Returns the transform that a network predicts, from fixed to moving space, its grid the fixed image's.

    Returns:
        The transform, and whether a mirror image would fit better.
    """
    batch = pair.batch()
    prediction = pair.predict(batch)
    found = _from_fixed_to_moving_grid(prediction, pair).then(pair.start)
    tells_sides = pair.dims == 3 and shows_inside(pair.fixed.image) and shows_inside(pair.moving.image)
    doubted = mirrored(batch, prediction, pair.predict, pair.inputs.axes) if tells_sides else []
    return Transform(found.steps, pair.fixed.image.grid), doubted


def asked_again(pair: NetworkPair) -> Asked:
    """Asks the network about the pair changed a little, in four more passes, or three where it was mirrored before."""
    batch, predict = pair.batch(), pair.predict
    ddf = ops.convert_to_numpy(predict(batch)["ddf"])
    axes, dims, grid = pair.inputs.axes, pair.dims, pair.grid
    axis = max(axes.find("R"), axes.find("L")) if dims == 3 else 0
    fixed, moving = (Image(seen.image[..., 0], seen.grid.affine) for seen in (pair.fixed_view, pair.moving_view))
    anatomy = None if pair.lungs is None else resample(pair.lungs, grid, order=0).array > 0
    asked = Asked(fixed, moving, dims, anatomy=anatomy)

    def residual(one: np.ndarray, two: np.ndarray) -> float:
        one, two = (from_batch(each, dims)[..., 0] for each in (one, two))
        return float(lncc_residual(one, two, dims)[asked.inside].mean())

    to_mm = (pair.moving_view.grid.affine[:3, :3]).T
    apart = [spatial_field(each, dims) @ to_mm for each in differences(batch, ddf, predict, axis)]
    left = spatial_field(remaining(batch, ddf, predict), dims) @ to_mm
    mirror = mirror_gain(batch, ddf, predict, axis, residual)
    return replace(asked, differences=apart, remaining=left, mirror=mirror)


def undoubted_transform(pair: NetworkPair) -> Transform:
    """Returns the same transform alone, in one pass of the network."""
    found = _from_fixed_to_moving_grid(pair.predict(pair.batch()), pair).then(pair.start)
    return Transform(found.steps, pair.fixed.image.grid)


def _from_fixed_to_moving_grid(prediction: Mapping[str, Tensor], pair: NetworkPair) -> Transform:
    """Turns a prediction in voxels of the network's grid into a transform in mm: from the fixed grid to the moving."""
    linear = None
    if "matrix" in prediction and (pair.dims == 3 or pair.grid.shape[2] == 1):
        matrix = embedded(ops.convert_to_numpy(prediction["matrix"])[0])
        linear = Transform.linear(pair.grid.affine @ matrix @ np.linalg.inv(pair.grid.affine))
        if "dense" not in prediction:
            return linear
    ddf = ops.convert_to_numpy(prediction["ddf" if linear is None else "dense"])
    dense = Transform.from_voxel_ddf(spatial_field(ddf, pair.dims), pair.grid)
    return dense if linear is None else dense.then(linear)


def predicted_labels(model: RegistrationModel, pair: NetworkPair) -> Image:
    """Returns the moving image's labels on the fixed image's grid, as a conditional model predicts them there."""
    if not pair.labels:
        raise invalid("moving_labels", "at least one label", "an empty map")
    labels = to_batch(pair.moving_view.channels(range(len(pair.labels))), pair.dims)
    found = ops.convert_to_numpy(model.predict_labels(pair.batch() | {"moving_labels": labels}))
    probabilities = resample(Image(from_batch(found, pair.dims), pair.grid.affine), pair.fixed.image.grid)
    return _like(pair.moving.labels, probabilities, pair.labels)


def _like(given: Image, probabilities: Image, wanted: list[int]) -> Image:
    """Returns predicted probabilities, one channel for each of `wanted`, as labels of the given kind."""
    array = probabilities.array
    if given.channels is None:
        best = np.array(wanted)[array.argmax(axis=-1)]
        return Image(np.where(array.max(axis=-1) >= 0.5, best, 0).astype(given.array.dtype), probabilities.affine)
    full = np.zeros((*array.shape[:3], given.channels), np.float32)
    full[..., [each - 1 for each in wanted]] = array
    return Image(full, probabilities.affine)


def model_facts(model: RegistrationModel) -> dict:
    """Returns which model it was, to the bytes of its weights."""
    card = model.card
    facts = {"name": card.name, "version": card.version, "sha256": card.digest, "backend": backend.NAME}
    return facts | ({"source": model.source} if getattr(model, "source", None) else {})
