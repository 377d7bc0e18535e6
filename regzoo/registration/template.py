"""template: an average of many images that favours none of them, and the map from it to each image."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from regzoo import backend, progress
from regzoo.errors import invalid
from regzoo.io import remnants
from regzoo.io.files import check_writable
from regzoo.io.provenance import provenance
from regzoo.models import RegistrationModel, zoo
from regzoo.registration.checks import check_effort, checked_method
from regzoo.registration.network import model_facts, network_pair, undoubted_transform
from regzoo.registration.pairs import distinct, stem
from regzoo.registration.register import register
from regzoo.registration.results import Result, clock
from regzoo.registration.rounds import Study, Subject, plain_mean, run, settled
from regzoo.registration.sides import read_images, read_side
from regzoo.registration.stripping import shown
from regzoo.registration.template_files import UNFINISHED, Made, Template, write
from regzoo.world.alignment import Alignment, origin
from regzoo.world.images import Grid, Image, Source
from regzoo.world.matrices import about, map_points
from regzoo.world.resampling import resample
from regzoo.world.transforms import Transform


def template(
    images: Sequence[Source],
    output: str | os.PathLike,
    model: zoo.Model | None = None,
    *,
    method: str | Sequence[str] | None = None,
    refine: int = 0,
    loss: str | None = None,
    iterations: int | None = None,
    alignment: Alignment | None = None,
    start: Source = "mean",
    spacing: float | None = None,
    symmetric: bool = False,
    rounds: int = 10,
    tolerance: float = 0.1,
    keep_intensities: bool = False,
    moved: bool = False,
    command: str | None = None,
) -> Template:
    """Makes an average of images that favours none of them, and the map from it to each image.

    In each round every image is registered to the average so far. D, the mean of the maps, leads each place of it to
    the middle of the places where the images have it. D's inverse brings maps and average there: the mean of the maps
    then moves nothing, and each image is sampled once for the new average. Rounds go on until the maps change
    little from one to the next. Maps are counted from how the images lay at the start, image centre on
    image centre or in scanner coordinates. The average is a plain mean; it is not sharpened.

    Args:
        images: At least two, of one contrast: files, or `Image` objects. A file's name names its results.
        output: Folder to write to. During the work `unfinished.nii.gz` in it is the average so far, from which `start`
            can go on.
        model: Name or folder of a zoo entry, or what `regzoo.load` gave; loaded once.
        method: Instead of a model; this and the next four as in `register`.
        refine: Steps by which each registration is improved.
        loss: Of `method` and `refine`.
        iterations: Of `method`, on each level.
        alignment: How the images lie at the start.
        start: `"mean"`, the plain mean of the images; or an image. Its grid, of a mean the first image's, becomes the
            template's.
        spacing: Instead: voxels of so many mm along R, A and S, around that grid.
        symmetric: Whether left and right become the same: the average of the images and of their mirror images, the
            plane between the sides in the middle of the grid. It is for what compares left with right.
        rounds: Most rounds.
        tolerance: What is small, in voxels: the mean over the anatomy and all maps.
        keep_intensities: Whether images are averaged as they are, as are those for a model that looks through a window
            (CT). Otherwise the 1st and 99th percentile of each, on the template's grid, become 0 and 1.
        moved: Whether each image is also written as it was averaged, on the template's grid.
        command: What `result.json` keeps as the command.

    Returns:
        The template. The folder holds template.nii.gz; of each image NAME_to_template.h5, from the template's points to
        the image's as `register` gives it, which ITK and ANTs read; template.png and result.json.

    Raises:
        RegzooError: If an image, the model, an option or the output folder cannot be used.

    Source: Guimond et al., Average brain models, Computer Vision and Image Understanding 77, 2000.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> def ball(middle):
        ...     places = np.moveaxis(np.indices((24, 20, 16)), 0, -1)
        ...     return regzoo.Image(np.exp(-((places - middle) ** 2).sum(-1) / 30), np.diag([2.0, 2.0, 2.0, 1.0]))
        >>> made = regzoo.template([ball((10, 9, 7)), ball((14, 9, 7))], "average", method="rigid", rounds=1)
        >>> [int(place) for place in np.unravel_index(made.image.array.argmax(), made.image.shape)]
        [12, 9, 7]
    """
    options = {"refine": refine, "loss": loss, "iterations": iterations}
    if alignment not in (None, *get_args(Alignment)):
        raise invalid("alignment", "'center', 'world', 'mass' or 'moments'", repr(alignment))
    names = checked_method(model, method, alignment or "center")
    check_effort(names, loss, False, refine, iterations)
    _check(images, spacing, rounds, tolerance)
    output, seconds = Path(output), {}
    check_writable(output, folder=True)
    with clock(seconds, "load"):
        loaded = None if model is None else _with_field(zoo.load(model))
    how = alignment or ("center" if loaded is None else loaded.card.input.alignment)
    with clock(seconds, "read"):
        first = Image.of(images[0] if _is_mean(start) else start, "start")
        subjects = _subjects(images, origin(first, how), how)
    facts = _origin(subjects, None if _is_mean(start) else first)
    facts |= {"method": ",".join(names), "backend": backend.NAME} if loaded is None else {"model": model_facts(loaded)}
    facts |= {"command": command, "alignment": how, "symmetric": symmetric, "seconds": seconds}
    facts["options"] = options | {"alignment": alignment, "spacing": spacing, "rounds": rounds, "tolerance": tolerance}
    grid = first.grid if spacing is None else first.grid.upright(spacing)
    mirror = mirror_of(grid) if symmetric else None
    matched = not (keep_intensities or (loaded is not None and loaded.card.input.intensity.name == "window"))
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=remnants.prefix(), dir=output) as work:
        study = Study(
            subjects, grid, *registering(loaded, method, options | {"start": how}), Path(work), mirror, matched
        )
        made = _made(study, None if _is_mean(start) else first, rounds, tolerance, output, seconds)
        return write(study, made, facts, output, moved)


def _is_mean(start: Source) -> bool:
    return isinstance(start, str) and start == "mean"


def _check(images: Sequence[Source], spacing: object, rounds: object, tolerance: object) -> None:
    if isinstance(images, str | os.PathLike) or len(images) < 2:
        raise invalid("images", "a list of two or more", 1 if isinstance(images, str | os.PathLike) else len(images))
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise invalid("rounds", "a number of rounds from 1", rounds)
    for name, value in {"tolerance": tolerance, "spacing": 1.0 if spacing is None else spacing}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
            raise invalid(name, "a number above 0", value)


def _with_field(model: RegistrationModel) -> RegistrationModel:
    if not hasattr(model, "card") or not model.has_field:
        raise invalid("model", "one with a card, as regzoo.load gives it, and a transform", "one without")
    return model


def _subjects(images: Sequence[Source], there: np.ndarray, how: Alignment) -> tuple[Subject, ...]:
    """Names the images, and says how far each lies at the start from the template, whose origin is given."""
    names, shifts = [], []
    for number, source in enumerate(images, 1):
        image = Image.of(source, f"image {number}")
        if image.channels is not None:
            raise invalid(f"image {number}", "one value a voxel", f"{image.channels} channels")
        names.append(stem(image.file) if image.file else f"image-{number}")
        shifts.append(Transform.linear(about(np.eye(3), there, origin(image, how))))
    return tuple(map(Subject, distinct(names), images, shifts))


def _origin(subjects: Sequence[Subject], start: Image | None) -> dict:
    """Returns where all of it comes from."""
    facts = provenance({each.name: each.source for each in subjects}, backend.versions(), backend.device())
    told = {"start": "mean"} if start is None else provenance({"start": start}, {}, "")["inputs"]
    return facts | {"start": told.get("start", "memory")}


def mirror_of(grid: Grid) -> Transform:
    """Returns the map that exchanges left and right about the middle of a grid, on which it leads voxels to voxels."""
    middle = map_points(grid.affine, (np.array(grid.shape) - 1) / 2)
    mirror = Transform.linear(about(np.diag([-1.0, 1.0, 1.0]), middle, middle))
    along = np.abs(grid.affine[:3, :3] / grid.spacing)
    if not np.isclose(along, np.rint(along), atol=1e-4).all():
        raise invalid("symmetric", "a grid along R, A and S", grid.text(), "Give spacing, which makes one.")
    return mirror


def registering(model: RegistrationModel | None, method: object, options: dict) -> tuple[Callable, Callable]:
    """Returns what finds a map, and what registers: where a network alone does it, the first one looks no further."""

    def registered(fixed: Source, moving: Source) -> Result:
        with progress.heard_by(lambda *_: None):  # the bar is that of the rounds
            return register(fixed, moving, model, method=method, error=False, **options)

    def found(fixed: Source, moving: Source) -> Transform:
        if model is None or options["refine"]:
            return registered(fixed, moving).transform
        images = zip(("fixed", "moving"), read_images(fixed, moving, None), strict=True)
        sides = tuple(read_side(*named, None) for named in images)
        seen = shown(model, sides, strip=True).sides
        return undoubted_transform(network_pair(model, *seen, options["start"], {}))

    return found, registered


def _made(study: Study, start: Image | None, most: int, tolerance: float, output: Path, seconds: dict) -> Made:
    """Makes the rounds."""
    with clock(seconds, "start"):
        before = plain_mean(study)
        image = before.image() if start is None else resample(start, study.grid, outside=float(start.array.min()))
    facts = []
    with clock(seconds, "rounds"):
        for done in run(study, image, most, tolerance):
            facts.append(done.facts)
            done.image.save(output / UNFINISHED)
    return Made(before, done, tuple(facts), settled(done.facts, tolerance))
