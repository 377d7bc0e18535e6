"""One picture a registration: is the moved image really on the fixed one, and is the field plausible?"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from regzoo.registration.report.planes import Plane, planes
from regzoo.registration.report.shown import Shown
from regzoo.world.labels import mask, present

if TYPE_CHECKING:
    from regzoo.registration.results import Result


def picture(shown: Shown, path: Path) -> None:
    """Draws three planes of a registration, in mm and in radiological layout (R on the left of the page).

    Rows: fixed; moving, as it lay at the start; moved; difference to the fixed image before and after; the deformed
    grid; the Jacobian determinant. Labels are outlined, yellow of the fixed and cyan of the shown image. Without a
    transform there are the first two rows, and on the fixed image the predicted labels in cyan. An image of one slice
    is one plane.

    Args:
        shown: What `register` gave, and what is drawn from it.
        path: PNG file to write.
    """
    result, window = shown.result, shown.window
    fixed, grid = result.fixed.array, result.fixed.grid
    views = planes(grid, shown.middle)
    caption = _caption(result)
    rows = {"fixed": _scale(fixed, window["fixed"]), "moving": _scale(shown.before.array, window["moving"])}
    if result.transform is not None:
        rows["moved"] = _scale(result.moved.array, window["moving"])
    names = [*rows, *(_FIELD_ROWS if result.transform is not None else ())]
    figure, axes = _page([view.extent(grid) for view in views], len(caption), names)
    for column, view in enumerate(views):
        for row, array in enumerate(rows.values()):
            _show(axes[row, column], view.cut(array), view, cmap="gray", vmin=0, vmax=1)
        _draw_labels(axes[:, column], view, shown)
        axes[0, column].set_title(f"{view.name}\n{view.left} left, {view.right} right", fontsize=9)
    if result.transform is not None:
        _draw_field(figure, axes[len(rows) :], views, shown, list(rows.values()))
    figure.text(0.02, 1 - 0.1 / figure.get_figheight(), "\n".join(caption), fontsize=9, va="top", linespacing=1.2)
    figure.savefig(path, format="png")


_FIELD_ROWS = ("difference\nbefore", "difference\nafter", "deformed\ngrid", "Jacobian")


def _draw_field(figure: Figure, axes: np.ndarray, views: list[Plane], shown: Shown, scaled: list) -> None:
    """Draws what a transform changes: the difference of the images, a grid, the volume."""
    result, jacobian = shown.result, shown.volume_change
    grid = result.fixed.grid
    # Index coordinates of the fixed image that each voxel is sampled from, for the deformed grid.
    shift = result.transform.displacement(grid) - result.start.displacement(grid)
    voxels = shift @ np.linalg.inv(grid.affine[:3, :3]).T
    for column, view in enumerate(views):
        for row, image in enumerate(scaled[1:]):
            _show(axes[row, column], view.cut(image - scaled[0]), view, cmap="RdBu_r", vmin=-1, vmax=1)
        _draw_grid(axes[2, column], view, voxels, result.fixed.spacing)
        drawn = _show(axes[3, column], view.cut(jacobian), view, cmap="PuOr", vmin=0, vmax=2)
        _outline(axes[3, column], view.cut(jacobian) <= 0, view, "red")
    height = figure.get_figheight()
    bar = figure.add_axes((0.1, 0.55 / height, 0.3, 0.1 / height))
    label = "volume of moving / volume of fixed (red: folds)"
    figure.colorbar(drawn, cax=bar, orientation="horizontal", label=label, extend="max")


def _page(extents: list[tuple[float, float]], lines: int, names: list[str]) -> tuple[Figure, np.ndarray]:
    """Lays out a page on which every plane has one scale: columns as wide, rows as high as the planes in mm."""
    left, gap, top, bottom, width = 0.8, 0.12, 0.75 + 0.16 * lines, 0.8, 8.0  # inches
    widths, heights = np.transpose(extents)
    # Rows of at most 3 inches, so that a long image (a spine, a leg) does not make an endless page.
    scale = min((width - left - gap * len(extents)) / widths.sum(), 3 / heights.max())
    row_height = heights.max() * scale
    height = top + bottom + len(names) * (row_height + gap)
    figure = Figure(figsize=(width, height), dpi=90)
    FigureCanvasAgg(figure)
    axes = np.empty((len(names), len(extents)), dtype=object)
    for row in range(len(names)):
        x, y = left, height - top - row_height - row * (row_height + gap)
        for column, wide in enumerate(widths * scale):
            axes[row, column] = figure.add_axes((x / width, y / height, wide / width, row_height / height))
            x += wide + gap
        axes[row, 0].set_ylabel(names[row], fontsize=10)
    return figure, axes


def _scale(array: np.ndarray, window: np.ndarray) -> np.ndarray:
    low, high = window
    return np.clip((array - low) / max(high - low, 1e-12), 0, 1)


def _show(axes: Axes, plane: np.ndarray, view: Plane, **settings: object) -> object:
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(plane, origin="lower", aspect=view.aspect, interpolation="nearest", **settings)


def _outline(axes: Axes, mask: np.ndarray, view: Plane, colour: str) -> None:
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        axes.contour(mask, levels=[0.5], colors=colour, linewidths=0.8)


def _draw_labels(axes: np.ndarray, view: Plane, shown: Shown) -> None:
    """Outlines the fixed labels on every image, and each image's own."""
    result, start = shown.result, shown.labels_before
    fixed, moved = result.fixed_labels, result.moved_labels
    if moved is None:
        return
    images = 2 if result.transform is None else 3
    for label in present(moved if fixed is None else fixed):
        if fixed is not None:
            for row in range(images):
                _outline(axes[row], view.cut(mask(fixed, label)), view, "gold")
        _outline(axes[1], view.cut(mask(start, label)), view, "cyan")
        _outline(axes[0 if result.transform is None else 2], view.cut(mask(moved, label)), view, "cyan")


def _draw_grid(axes: Axes, view: Plane, voxels: np.ndarray, spacing: np.ndarray) -> None:
    """Draws where a regular grid of the fixed image is sampled from, after the start's alignment."""
    across, up = view.cut(voxels[..., view.across]), view.cut(voxels[..., view.up])
    rows, columns = np.meshgrid(*(np.arange(n) for n in across.shape), indexing="ij")
    x = columns + (-across if view.flip_across else across)
    y = rows + (-up if view.flip_up else up)
    apart = (spacing * voxels.shape[:3]).max() / 20  # mm, the same in all views
    wide, high = (max(1, round(apart / spacing[axis])) for axis in (view.across, view.up))
    axes.plot(x[:, ::wide], y[:, ::wide], color="black", linewidth=0.5)
    axes.plot(x[::high].T, y[::high].T, color="black", linewidth=0.5)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, across.shape[1] - 0.5), ylim=(-0.5, across.shape[0] - 0.5))
    axes.set_aspect(view.aspect)


def _caption(result: Result) -> list[str]:
    """Returns the lines above the planes."""
    facts = result.facts
    before, after = facts["scores"]["before"], facts["scores"]["after"]
    name = "{name} version {version}".format(**facts["model"]) if "model" in facts else facts["method"]
    lines = [f"{name}{', refined' if 'refinement' in facts else ''}, start: {facts['start']}"]
    names = {"mean_dice": "Dice", "mean_hd95": "HD95 (mm)", "tre": "TRE (mm)", "ncc": "correlation"}
    for key, name in names.items():
        if key in after:
            shown = [f"{_value(before[key]):.3f} before, {_value(after[key]):.3f} after"]
            ways = {"map": f"{key}_forward", "inverse": f"{key}_inverse"}
            shown += [f"by the {way} {_value(after[each]):.3f}" for way, each in ways.items() if each in after]
            lines.append(f"{name} {', '.join(shown)}")
    if "jacobian" in facts:
        jacobian = facts["jacobian"]
        lines.append(f"folds {100 * jacobian['folds']:.3f} % of voxels, SDlogJ {jacobian['sdlogj']:.3f}")
    else:
        lines.append("No transform: labels predicted on the fixed image, in cyan.")
    if "jacobian" in facts and result.moved_labels is not None:
        lines.append("Outlines: labels of the fixed image yellow, of the moving image cyan.")
    warnings = (textwrap.wrap(f"WARNING: {text}", 105, subsequent_indent="    ") for text in facts["warnings"])
    return lines + [line for wrapped in warnings for line in wrapped]


def _value(score: float | dict) -> float:
    return score["mean"] if isinstance(score, dict) else score
