"""register: two images and a model in; the moved image, a transform, figures, warnings and a picture out."""

from collections.abc import Sequence
from dataclasses import replace

from regzoo import backend, classical
from regzoo.errors import InvalidError, invalid, renamed
from regzoo.io.provenance import provenance
from regzoo.models import RegistrationModel, zoo
from regzoo.registration.checks import check_effort, check_given, checked_method, with_card
from regzoo.registration.expected.evidence import evidence
from regzoo.registration.expected.expectation import expected
from regzoo.registration.expected.verdict import not_for, verdict
from regzoo.registration.fit import fit, fit_doubts
from regzoo.registration.found import Found, by_method, by_model, of_shown, refined
from regzoo.registration.network import NetworkPair, network_pair, predicted_labels
from regzoo.registration.orientation import still_turned
from regzoo.registration.report.words import done
from regzoo.registration.results import Result, clock
from regzoo.registration.scores import Side, doubts, in_view, label_doubts, over_same_labels, overlap, score
from regzoo.registration.sides import (
    Points,
    guiding_labels,
    masks_of,
    padded,
    read_both_points,
    read_images,
    read_masks,
    read_side,
    stacked,
)
from regzoo.registration.starts import start_told
from regzoo.registration.stripping import shown
from regzoo.schema.losses import any_contrast
from regzoo.world.alignment import Start
from regzoo.world.images import Grid, Image, Source
from regzoo.world.jacobians import statistics
from regzoo.world.labels import anywhere, mask, shared_labels
from regzoo.world.transforms import Transform


@renamed(alignment="start")
def register(
    fixed: Source,
    moving: Source,
    model: zoo.Model | None = None,
    *,
    method: str | Sequence[str] | None = None,
    refine: int = 0,
    loss: str | None = None,
    iterations: int | None = None,
    guided: bool = False,
    only_if_better: bool = False,
    fixed_mask: Source | None = None,
    moving_mask: Source | None = None,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    fixed_points: Points | None = None,
    moving_points: Points | None = None,
    start: Start = "auto",
    spacing: Sequence[float] | None = None,
    error: bool = True,
    strip: bool = True,
) -> Result:
    """Registers the moving image to the fixed image, by a network or by optimisation.

    Args:
        fixed: File, `Image`, nibabel image or array; the result lies on its grid.
        moving: The same; any shape, spacing and orientation.
        model: Name or folder of a zoo entry, or what `regzoo.load` gave.
        method: Instead of a model: names of `regzoo.classical.METHODS`, one after another, such as `"affine,dvf"`.
        refine: Most steps by which the result is improved on this pair; 0: none.
        loss: Image loss of `method` and `refine`, one of `regzoo.classical.IMAGE_LOSSES`; None: `"lncc"`.
        iterations: Most steps of `method` on each level of resolution; None: 100.
        guided: Whether the labels of both images guide `method` and `refine` too. What is then scored on them says
            how well they were fitted, not how good the registration is.
        only_if_better: Whether the start is the result where the images fitted at the start and the registration fits
            them hardly better; without it, a warning says so.
        fixed_mask: Label map on the fixed image's grid, where an array is taken to lie; `method` and `refine` compare
            only where it is not 0, and a model that looks around the lungs takes it for them.
        moving_mask: The same on the moving image's grid.
        fixed_labels: Label map on the fixed image's grid; unless `guided` only scored, never shown to the model.
        moving_labels: Label map on the moving image's grid; moved, and scored if both are given.
        fixed_points: CSV of landmarks `x,y,z` in RAS mm, or an array (N, 3).
        moving_points: The same landmarks in the moving image, row by row.
        start: How to start. `"center"`: image centre on image centre; `"world"`: scanner coordinates; `"mass"`: centre
            of mass on centre of mass; `"moments"`: their axes too; `"rigid"`: a quick rigid search on coarse images
            from several turned starts; `"affine"`: by an affine network of the zoo for the model's anatomy. `"auto"`:
            as the model was trained (a `method`: `"center"`), unless the images match clearly better by the rigid
            search. `result.facts["start"]` tells which it was, and the start is part of the transform.
        spacing: Millimetres along the axes of images that are arrays; these are taken to run along R, A, S from the
            origin. For another geometry: `regzoo.Image(array, affine)`.
        error: Whether an error in mm is expected of the result, and a verdict given. A network is asked four times more
            for it, and a method looks whether left and right are exchanged.
        strip: Whether a model that was made for brains without skull is shown the brain alone where an image is of a
            whole head. Labels, landmarks and the moved image are those of the head.

    Returns:
        The result; `result.save(folder)` writes it.

    Raises:
        RegzooError: If an input cannot be used; the message says which and what to do.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> def ball(middle):
        ...     places = np.moveaxis(np.indices((24, 20, 16)), 0, -1)
        ...     return np.exp(-((places - middle) ** 2).sum(-1) / 30)
        >>> fixed, moving = ball((11, 9, 7)), ball((13, 9, 7))
        >>> result = regzoo.register(fixed, moving, method="rigid", spacing=(2.0, 2.0, 2.0))
        >>> result.transform.apply_points([[22.0, 18.0, 14.0]]).round().tolist()  # mm, in the moving image
        [[26.0, 18.0, 14.0]]
    """
    seconds: dict[str, float] = {}
    names = checked_method(model, method, start)
    check_effort(names, loss, guided, refine, iterations)
    with clock(seconds, "load"):
        model = None if model is None else with_card(zoo.load(model))
    with clock(seconds, "read"):
        files = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
        files |= {"fixed_labels": fixed_labels, "moving_labels": moving_labels}
        files |= {"fixed_points": fixed_points, "moving_points": moving_points}
        sides, masks, origin = _read(*read_images(fixed, moving, spacing), files)
    asked = {"refine": refine, "loss": loss, "iterations": iterations, "guided": guided}
    origin["options"] = asked | {"only_if_better": only_if_better, "start": start}
    origin["options"] |= {name: False for name, wanted in (("error", error), ("strip", strip)) if not wanted}
    check_given(*sides, masks, model, refine)
    labels = guiding_labels(*sides) if guided else None
    guidance = (
        classical.Guidance(loss or "lncc", iterations or 100, **masks_of(sides, masks), labels=labels)
        if names or refine
        else None
    )
    if model is None:
        found = by_method(*sides, names, start, guidance, masks, seconds, error)
    else:
        with clock(seconds, "network"):
            seen = shown(model, sides, strip)
            pair = network_pair(model, *seen.sides, start, masks)
        if not model.has_field:
            return _segmented(model, pair, origin, seconds, error)
        found = of_shown(by_model(model, pair, seconds, error), seen, masks)
    if refine:
        found = refined(*sides, found, replace(guidance, iterations=refine, **found.masks), seconds)
    if guided:
        found.facts["warnings"].append(
            "The labels guided the registration: their overlap says nothing about its quality."
        )
    result = _result(*sides, replace(found, facts=origin | found.facts), seconds, only_if_better)
    return _judged(result, found, seconds) if error else result


def _read(fixed: Image, moving: Image, files: dict) -> tuple[tuple[Side, Side], dict[str, Image], dict]:
    """Returns both sides, the masks, and where all of it comes from."""
    images = {"fixed": fixed, "moving": moving}
    points = read_both_points(files["fixed_points"], files["moving_points"])
    sides = tuple(read_side(name, each, files[f"{name}_labels"], points[name]) for name, each in images.items())
    masks = read_masks(sides, files["fixed_mask"], files["moving_mask"])
    return sides, masks, provenance(images | files, backend.versions(), backend.device())


def _judged(result: Result, found: Found, seconds: dict[str, float]) -> Result:
    """Adds the error that is expected and the verdict."""
    amount, error = None, None
    if found.asked is not None:
        with clock(seconds, "error"):
            amount = expected(evidence(found.asked, result.transform, found.start), found.calibration)
            error = amount.on(result.fixed.grid)
    facts = {} if amount is None else {"error": amount.facts}
    facts |= verdict(amount, found.calibration, found.against) | {"not_for": not_for(result.card)}
    return replace(result, facts=result.facts | facts | {"done": done(result.facts)}, error=error)


def _result(fixed: Side, moving: Side, found: Found, seconds: dict[str, float], only_if_better: bool) -> Result:
    """Moves and scores."""
    grid, start, facts = fixed.image.grid, found.start, found.facts
    if facts["start"] not in ("center", "world"):
        facts = facts | {"start_told": start_told(start.matrix, fixed.image)}
    transform = found.transform.within(grid)
    with clock(seconds, "warp"):
        started, moved = (_moved(each, moving.image, grid) for each in (start, transform))
        seen = in_view(start, moving, grid) & in_view(transform, moving, grid)
        if fixed.padding is not None:
            seen &= ~fixed.padding
        fitted = fit(fixed.image, started, moved, seen, found.anatomy)
        if only_if_better and fitted.fitted_already:
            transform, moved = start.within(grid), started
        labels = moving.labels and transform.apply_labels(moving.labels, grid)
    against = fit_doubts(fitted, only_if_better, found.lungs)
    if "method" in facts:
        against += still_turned(fixed.image, moved)
    facts["warnings"] += padded(fixed, moving) + stacked(fixed, moving) + against
    with clock(seconds, "scores"):
        vectors = transform.displacement(grid)
        before = score(fixed, moving, start, started, seen)
        scores = over_same_labels(before, score(fixed, moving, transform, moved, seen, labels))
        where, determinant = fixed.labels and anywhere(fixed.labels), transform.jacobian_determinant(grid)
        jacobian = statistics(vectors, grid, where, transform.linear_part, determinant)
    beyond = 0 if fixed.points is None else int((~transform.covers(fixed.points)).sum())
    if beyond:
        told = f"{beyond} of {len(fixed.points)} fixed landmarks lie beyond the fixed image, where no field moves them."
        facts["warnings"].append(told)
    facts["warnings"] += doubts(scores, jacobian, not any_contrast(facts.get("loss")))
    found.against.extend([*against, *label_doubts(scores)])
    return Result(
        fixed=fixed.image,
        moving=moving.image,
        moved=moved,
        transform=transform,
        start=start,
        facts=facts | {"scores": scores, "jacobian": jacobian, "seconds": seconds},
        fixed_labels=fixed.labels,
        moving_labels=moving.labels,
        moved_labels=labels,
        fixed_points=fixed.points,
        moving_points=moving.points,
        card=found.card,
    )


def _segmented(
    model: RegistrationModel, pair: NetworkPair, origin: dict, seconds: dict[str, float], judged: bool
) -> Result:
    """Predicts the moving image's labels on the fixed image; there is no transform."""
    fixed, moving = pair.fixed, pair.moving
    if moving.labels is None:
        raise invalid("moving_labels", "labels, which a conditional model carries to the fixed image", None)
    if fixed.points is not None or moving.points is not None:
        raise InvalidError("Landmarks need a transform, and a conditional model has none. Leave them out.")
    with clock(seconds, "network"):
        labels = predicted_labels(model, pair)
    with clock(seconds, "scores"):
        scores = {"before": {}, "after": {}}
        if fixed.labels is not None:
            shared = shared_labels(fixed.labels, moving.labels)
            laid = pair.start.apply_labels(moving.labels, fixed.image.grid)
            scores = over_same_labels(overlap(fixed.labels, laid, shared), overlap(fixed.labels, labels, shared))
    facts = origin | pair.facts(model) | {"scores": scores, "seconds": seconds}
    if judged:
        facts |= {"done": done(facts), "not_for": not_for(model.card)} | verdict(None, None, pair.against)
    nowhere = [str(value) for value in pair.labels if not mask(labels, value).any()]
    if nowhere:
        facts["warnings"].append(f"Labels that the model found nowhere on the fixed image: {', '.join(nowhere)}.")
    facts["warnings"] += label_doubts(scores)
    facts["transform"] = "none: a conditional model predicts the labels on the fixed image directly"
    return Result(
        fixed=fixed.image,
        moving=moving.image,
        start=pair.start,
        facts=facts,
        fixed_labels=fixed.labels,
        moving_labels=moving.labels,
        moved_labels=labels,
        card=model.card,
    )


def _moved(transform: Transform, moving: Image, grid: Grid) -> Image:
    """Moves an image with its lowest value around it: 0 is background in MR, but water in CT."""
    return transform.apply_image(moving, grid, outside=float(moving.array.min()))
