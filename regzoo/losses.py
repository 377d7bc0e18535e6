"""Losses: two images, two label maps or one field in; one value a batch item out, lower is better."""

import functools
import math
from collections.abc import Mapping, Sequence

from keras import ops

from regzoo.checks import invalid, unknown
from regzoo.filters import Window, difference, smooth


def _float(x: object) -> object:
    return ops.convert_to_tensor(x, dtype="float32")


def _mean(x: object) -> object:
    """Averages all but the batch axis."""
    return ops.mean(x, axis=tuple(range(1, len(x.shape))))


def _standardised(image: object) -> object:
    """Gives every image mean 0 and variance 1; a constant image becomes 0."""
    axes = tuple(range(1, len(image.shape)))
    image = _float(image)
    # Rounding of the mean, which a constant image would be scaled up to: far below this, and any contrast far above.
    rounding = 1e-7 * ops.stop_gradient(ops.max(ops.abs(image), axis=axes, keepdims=True))
    for _ in range(2):  # the second time takes away what rounding left of a large offset
        image = image - ops.mean(image, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(image), axis=axes, keepdims=True)
    return image / ops.sqrt(variance + ops.square(rounding) + 1e-30)


# --- images ---------------------------------------------------------------------------------------------------------


def ssd(fixed: object, moved: object) -> object:
    """Mean squared difference, in squared intensities.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).

    Returns:
        Shape (B,), from 0 (match).
    """
    return _mean(ops.square(_float(fixed) - _float(moved)))


def ncc(fixed: object, moved: object) -> object:
    """One minus the squared global correlation; the same for any `a * image + b`.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).

    Returns:
        Shape (B,), from 0 (match, in one contrast or its negative) to 1 (unrelated, or a constant image).
    """
    return 1 - ops.square(_mean(_standardised(fixed) * _standardised(moved)))


def lncc(fixed: object, moved: object, size: int = 9, window: Window = "box", floor: float = 1e-4) -> object:
    """One minus the squared correlation in a window around every voxel, averaged where either image has content.

    A window is flat where its variance is below `floor` times the variance of its image. Windows that are flat in both
    images are left out, so that background is no match; windows that are flat in one image count as no match.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).
        size: Window width in voxels, odd.
        window: `"box"`, `"triangular"` or `"gaussian"`.
        floor: Share of the image's variance below which a window is flat.

    Returns:
        Shape (B,), from 0 (match) to 1 (no match; also if both images are constant).

    Source: Avants et al., Symmetric diffeomorphic image registration with cross-correlation, 2008. Unlike most
    implementations, means are taken inside the image only and flat windows are no match.
    """
    fixed, moved = _standardised(fixed), _standardised(moved)
    channels = fixed.shape[-1]
    stack = ops.concatenate([fixed, moved, fixed * fixed, moved * moved, fixed * moved], axis=-1)
    mean = smooth(stack, size, window)
    f, m, ff, mm, fm = (mean[..., i * channels : (i + 1) * channels] for i in range(5))
    variance_f, variance_m = ff - f * f, mm - m * m
    correlation = ops.square(fm - f * m) / (ops.maximum(variance_f, floor) * ops.maximum(variance_m, floor))
    content = ops.stop_gradient(ops.cast((variance_f > floor) | (variance_m > floor), fixed.dtype))
    return (_mean(content * (1 - correlation)) + 1e-6) / (_mean(content) + 1e-6)


# --- labels ---------------------------------------------------------------------------------------------------------


def dice(fixed: object, moved: object) -> object:
    """One minus the soft Dice overlap, averaged over the labels that either map has.

    Args:
        fixed: One channel a label, in [0, 1], shape (B, *S, L).
        moved: The same of the moved labels.

    Returns:
        Shape (B,), from 0 (match) to 1 (disjoint); 0 if there is no label at all.
    """
    fixed, moved = _float(fixed), _float(moved)
    axes = tuple(range(1, len(fixed.shape) - 1))
    both = ops.sum(fixed * moved, axis=axes)
    total = ops.sum(fixed + moved, axis=axes)
    present = ops.cast(total > 0, fixed.dtype)
    score = 2 * both / ops.maximum(total, 1e-6)
    return ops.sum(present * (1 - score), axis=-1) / ops.maximum(ops.sum(present, axis=-1), 1.0)


# --- fields ---------------------------------------------------------------------------------------------------------


def _derivatives(field: object, spacing: Sequence[float] | None, squared: bool) -> list:
    """Returns (component, axis, derivative) of a voxel field's millimetre vectors per millimetre."""
    field = _float(field)
    dims = field.shape[-1]
    spacing = [1.0] * dims if spacing is None else list(spacing)
    if len(spacing) != dims:
        raise invalid("spacing", f"{dims} values in millimetres", spacing)
    scaled = ops.concatenate([field[..., d : d + 1] * spacing[d] for d in range(dims)], axis=-1)
    first = [difference(scaled, a) / spacing[a] for a in range(dims)]
    if not squared:
        return first
    # d2/dadb = d2/dbda: the mixed ones count twice.
    return [
        (math.sqrt(2.0) if a != b else 1.0) * difference(first[a], b) / spacing[b]
        for a in range(dims)
        for b in range(a, dims)
    ]


def gradient(ddf: object, spacing: Sequence[float] | None = None, norm: str = "l2") -> object:
    """Norm of the field's first derivatives: how much neighbouring voxels move apart.

    Args:
        ddf: Field in voxels, shape (B, *S, D).
        spacing: Millimetres a voxel, D values; derivatives are then mm per mm. None: isotropic.
        norm: `"l2"`, the mean of squares, or `"l1"`, the mean of absolute values, over voxels, components and axes.

    Returns:
        Shape (B,), from 0 (translation).

    Raises:
        ValueError: If `spacing` has not D values, or `norm` is unknown.
    """
    if norm not in ("l1", "l2"):
        raise invalid("norm", "'l1' or 'l2'", norm)
    power = ops.abs if norm == "l1" else ops.square
    parts = [_mean(power(part)) for part in _derivatives(ddf, spacing, squared=False)]
    return sum(parts) / len(parts)


def bending(ddf: object, spacing: Sequence[float] | None = None) -> object:
    """Bending energy: the squared second derivatives, summed over pairs of axes.

    Args:
        ddf: Field in voxels, shape (B, *S, D).
        spacing: Millimetres a voxel, D values; the energy is then in 1/mm^2. None: isotropic voxels of 1 mm.

    Returns:
        Shape (B,), mean over voxels and components, from 0 (any affine field).

    Source: Rueckert et al., Nonrigid registration using free-form deformations, 1999, eq. 8.
    """
    return sum(_mean(ops.square(part)) for part in _derivatives(ddf, spacing, squared=True))


IMAGE = {"ssd": ssd, "ncc": ncc, "lncc": lncc}
LABEL = {"dice": dice}
DEFORMATION = {"gradient": gradient, "bending": bending}
KINDS = {"image": IMAGE, "label": LABEL, "deformation": DEFORMATION}


def weighted_terms(objective: Mapping[str, Mapping[str, Mapping]], spacing: Sequence[float]) -> list[tuple]:
    """Resolves the names of an objective.

    Args:
        objective: Kind ("image", "label", "deformation") -> loss name -> `weight` and the loss's own parameters.
        spacing: Millimetres a voxel, given to the deformation losses.

    Returns:
        Rows (kind, name, loss, weight); terms with weight 0 are left out.

    Raises:
        ValueError: If a kind or a loss is unknown, a weight is negative, or no weight is above 0.
    """
    rows = []
    for kind, chosen in objective.items():
        if kind not in KINDS:
            raise unknown("kind of loss", kind, KINDS)
        for name, settings in chosen.items():
            if name not in KINDS[kind]:
                raise unknown(f"{kind} loss", name, KINDS[kind])
            settings = dict(settings, **({"spacing": tuple(spacing)} if kind == "deformation" else {}))
            weight = float(settings.pop("weight", 1.0))
            if not 0 <= weight < math.inf:
                raise invalid(f"{kind}.{name}.weight", "a number of at least 0", weight)
            if weight > 0:
                rows.append((kind, name, functools.partial(KINDS[kind][name], **settings), weight))
    if not rows:
        raise invalid("objective", "at least one loss with a weight above 0", "none")
    return rows
