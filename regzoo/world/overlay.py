"""Pictures of plain arrays: two label maps in three colours, tables of slices, points. No Keras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from regzoo.errors import invalid

WHITE, GREEN, RED = (1, 1, 1), (0, 1, 0), (1, 0, 0)


@dataclass(frozen=True)
class Comparison:
    """Two masks on each other.

    Args:
        picture: Shape (*S, 3), in [0, 1]: white where both are, green where only the moved one is (false positive), red
            where only the fixed one is (false negative), black elsewhere.
        both: Number of white voxels.
        moved_only: Number of green voxels.
        fixed_only: Number of red voxels.
    """

    picture: np.ndarray
    both: int
    moved_only: int
    fixed_only: int


def compare(fixed: np.ndarray, moved: np.ndarray, threshold: float = 0.5) -> Comparison:
    """Lays a moved label on the fixed one.

    Args:
        fixed: Label of the fixed image, any shape; inside where it is above the threshold.
        moved: Moved or predicted label, of the same shape; it may be soft, as labels moved linearly are.
        threshold: From where on a soft label counts as inside.

    Returns:
        The picture in three colours and the counts.

    Raises:
        InvalidError: If the shapes differ.
    """
    fixed, moved = np.asarray(fixed), np.asarray(moved)
    if fixed.shape != moved.shape:
        raise invalid("moved", f"shape {fixed.shape}, that of fixed", moved.shape)
    fixed, moved = fixed > threshold, moved > threshold
    parts = fixed & moved, moved & ~fixed, fixed & ~moved
    picture = np.zeros((*fixed.shape, 3), np.float32)
    for part, colour in zip(parts, (WHITE, GREEN, RED), strict=True):
        picture[part] = colour
    return Comparison(picture, *(int(part.sum()) for part in parts))


def at_fractions(mask: np.ndarray, count: int, axis: int = 2) -> list[int]:
    """Returns slices at equal fractions of what a mask spans, its ends left out: they exist at any resolution.

    Args:
        mask: What to look at, shape (I, J, K); where it is empty, the whole axis.
        count: How many slices.
        axis: Along which axis.

    Returns:
        Rising slice indices; some may coincide where there are fewer slices than `count`.

    Raises:
        InvalidError: If `count` is below 1.
    """
    if count < 1:
        raise invalid("count", "at least one slice", count)
    mask = np.asarray(mask) != 0
    inside = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
    low, high = (inside[0], inside[-1]) if inside.size else (0, mask.shape[axis] - 1)
    fractions = (np.arange(count) + 1) / (count + 1)
    return [round(low + part * (high - low)) for part in fractions]


def table(
    columns: Mapping[str, np.ndarray],
    slices: Sequence[int],
    axis: int = 2,
    title: str = "",
    aspect: float = 1.0,
) -> Figure:
    """Draws slices, one a row, of several volumes, one a column.

    A column has one grey scale for all its slices, from its lowest to its highest value; where values of both signs
    appear and the title says "minus", red is positive, blue negative and white 0.

    Args:
        columns: Title -> volume, shape (I, J, K), or (I, J, K, 3) in [0, 1] for colours; all of one (I, J, K).
        slices: Which slices.
        axis: Along which axis they are cut; of the other two, the first runs down and the second to the right.
        title: Above the figure.
        aspect: Voxel size of the first of the other axes by that of the second.

    Returns:
        The figure.

    Raises:
        InvalidError: If there is nothing to draw, the shapes differ, or a slice does not exist.
    """
    volumes = {name: np.asarray(volume) for name, volume in columns.items()}
    shapes = {volume.shape[:3] for volume in volumes.values()}
    if len(shapes) != 1 or not len(slices):
        raise invalid("columns and slices", "volumes of one shape, and a slice", f"{sorted(shapes)}, {list(slices)}")
    (shape,) = shapes
    for each in slices:
        if not 0 <= each < shape[axis]:
            raise invalid("slices", f"indices from 0 to {shape[axis] - 1} along axis {axis}", each)
    down, right = (size for other, size in enumerate(shape) if other != axis)
    wide = 1.45
    high = min(max(wide * down * aspect / right, 0.4), 2 * wide)
    top = 0.62 if title else 0.45
    size = (wide * len(volumes) + 0.35, (high + 0.06) * len(slices) + top)
    figure = Figure(figsize=size, dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(slices), len(volumes), squeeze=False)
    figure.subplots_adjust(
        left=0.35 / size[0],
        right=1 - 0.02 / size[0],
        bottom=0.02 / size[1],
        top=1 - top / size[1],
        wspace=0.04,
        hspace=0.05,
    )
    for column, (name, volume) in enumerate(volumes.items()):
        settings = _colours(name, volume)
        for row, each in enumerate(slices):
            axes[row, column].imshow(np.take(volume, each, axis=axis), aspect=aspect, **settings)
            axes[row, column].set(xticks=[], yticks=[])
            if column == 0:
                axes[row, 0].set_ylabel(f"{each}", fontsize=7)
        axes[0, column].set_title(name.replace(" ", "\n", 1) if len(name) > 14 else name, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=9, y=1 - 0.06 / size[1], va="top")
    return figure


def _colours(name: str, volume: np.ndarray) -> dict:
    if volume.ndim == 4:
        return {"vmin": 0, "vmax": 1, "interpolation": "nearest"}
    low, high = float(volume.min()), float(volume.max())
    if "minus" in name.lower():
        far = max(abs(low), abs(high), 1e-6)
        return {"cmap": "RdBu_r", "vmin": -far, "vmax": far, "interpolation": "nearest"}
    return {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-6), "interpolation": "nearest"}


_VIEWS = (("sagittal", 1, 2, "AP"), ("coronal", 0, 2, "RL"), ("axial", 0, 1, "RL"))
"""Name, the axes across and up the page, and what is on the page's left and right."""
_MOST_POINTS = 3000  # drawn of a set: more would only hide each other


def point_picture(fixed: np.ndarray, moving: np.ndarray, moved: np.ndarray, path: Path, title: str = "") -> None:
    """Draws point sets before and after registration, in fixed space, seen along three axes.

    The axes are in mm and laid out as in radiology: patient right on the page's left, head up, in the sagittal view
    the face to the left. Yellow: fixed points. Blue-green: moving points, in the upper row as they were, in the lower
    one as they were moved.

    Args:
        fixed: Shape (N, 3), RAS mm.
        moving: Shape (M, 3).
        moved: The moving points in fixed space, shape (M, 3).
        path: PNG file to write.
        title: Above the figure.

    Raises:
        InvalidError: If a set is not of shape (N, 3), or moving and moved differ in number.
    """
    sets = {"fixed": np.asarray(fixed), "moving": np.asarray(moving), "moved": np.asarray(moved)}
    for name, points in sets.items():
        if points.ndim != 2 or points.shape[1] != 3 or not len(points):
            raise invalid(name, "points, shape (N, 3)", points.shape)
    if len(sets["moved"]) != len(sets["moving"]):
        raise invalid("moved", f"{len(sets['moving'])} points, as many as moving", len(sets["moved"]))
    every = np.concatenate(list(sets.values()))
    low, high = every.min(axis=0), every.max(axis=0)
    margin = 0.05 * (high - low).max() + 1e-6
    figure = Figure(figsize=(10.5, 7.6), dpi=90)
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.07, top=0.88, wspace=0.3, hspace=0.25)
    for row, name in enumerate(("moving", "moved")):
        for panel, (view, across, up, sides) in zip(axes[row], _VIEWS, strict=True):
            for points, colour in ((sets["fixed"], "goldenrod"), (sets[name], "darkcyan")):
                shown = points[:: -(-len(points) // _MOST_POINTS)]
                label = "fixed" if colour == "goldenrod" else name
                panel.plot(shown[:, across], shown[:, up], ".", color=colour, markersize=2.5, alpha=0.7, label=label)
            # R and A count upwards, and belong on the page's left.
            panel.set(xlim=(high[across] + margin, low[across] - margin), ylim=(low[up] - margin, high[up] + margin))
            panel.set_aspect("equal")
            panel.set_xlabel(f"{sides[0]}  <-  {'RAS'[across]} (mm)  ->  {sides[1]}", fontsize=8)
            panel.set_ylabel(f"{'RAS'[up]} (mm)", fontsize=8)
            panel.tick_params(labelsize=7)
            panel.set_title(f"{view}, {'before' if row == 0 else 'after'}", fontsize=9)
    axes[0, 0].legend(fontsize=7, loc="upper right")
    axes[1, 0].legend(fontsize=7, loc="upper right")
    figure.suptitle(f"{title}: yellow, fixed points; blue-green, moving points".removeprefix(": "), fontsize=10)
    figure.savefig(path, format="png")
