"""One picture a registration: is the moved image really on the fixed one, and is the field plausible?"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from regzoo.registration.report import words
from regzoo.registration.report.planes import Plane, planes
from regzoo.registration.report.shown import Shown, largest_error
from regzoo.world.images import Grid, Image

_FEW = 8
"""Labels that are outlined; of more, so many of the largest are filled."""
_OPAQUE = 0.55
_WIDTH, DPI = 10.0, 100  # inches, pixels an inch
_FIELD_ROWS = ("difference\nbefore", "difference\nafter", "deformed\ngrid", "change of\nvolume")


def picture(shown: Shown, path: Path) -> None:
    """Draws three planes of a registration, in mm and in radiological layout (R on the left of the page).

    Rows: fixed; moving, as it lay at the start; moved; difference to the fixed image before and after; the deformed
    grid; the Jacobian determinant; the error that is expected, if one is. Up to eight labels are outlined, yellow of
    the fixed and cyan of the shown image; of more, the eight largest are filled. Without a transform there are the
    first two rows, and on the fixed image the predicted labels. An image of one slice is one plane.

    Args:
        shown: What `register` gave, and what is drawn from it.
        path: PNG file to write.
    """
    result, grid = shown.result, shown.result.fixed.grid
    views = planes(grid, shown.middle)
    rows = ["fixed", "moving,\nat the start", *(["moving,\nregistered"] if result.transform is not None else [])]
    windows = [shown.window["fixed"], *[shown.window["moving"]] * (len(rows) - 1)]
    names = [*rows, *(_FIELD_ROWS if result.transform is not None else ())]
    names += ["expected\nerror"] if result.error is not None else []
    caption, regions = caption_lines(shown), filled_regions(shown)
    figure, axes = page_axes([view.extent(grid) for view in views], len(caption), names)
    for column, view in enumerate(views):
        images = result.fixed, shown.before_on(view.alone(grid)), result.moved
        cuts = [scaled(view.cut(image.array), *window) for image, window in zip(images, windows, strict=False)]
        for row, cut in enumerate(cuts):
            show(axes[row, column], cut, view, cmap="gray", vmin=0, vmax=1)
        draw_labels(axes[:, column], view, shown, regions)
        axes[0, column].set_title(f"{view.name}\n{view.left} left, {view.right} right, {view.top} up", fontsize=10)
        if result.transform is not None:
            _draw_field(axes[len(rows) :, column], view, shown, cuts)
    if result.transform is not None:
        _draw_bars(figure, axes[len(rows) :, 0])
    draw_legend(figure, shown, regions)
    figure.text(0.02, 1 - 0.1 / figure.get_figheight(), "\n".join(caption), fontsize=10, va="top", linespacing=1.2)
    figure.savefig(path, format="png")


def _draw_field(axes: np.ndarray, view: Plane, shown: Shown, cuts: list[np.ndarray]) -> None:
    """Draws what a transform changes: the difference of the images, a grid, the volume."""
    for row, cut in enumerate(cuts[1:]):
        show(axes[row], cut - cuts[0], view, cmap="RdBu_r", vmin=-1, vmax=1)
    draw_grid(axes[2], view, shown.voxel_shift(view), shown.result.fixed.grid)
    volume = view.cut(shown.volume_change)
    show(axes[3], volume, view, cmap="PuOr", vmin=0, vmax=2)
    _outline(axes[3], volume <= 0, view, "red")
    if shown.result.error is not None:
        error = shown.result.error.array
        show(axes[4], view.cut(error), view, cmap="viridis", vmin=0, vmax=largest_error(error))


def _draw_bars(figure: Figure, axes: np.ndarray) -> None:
    """Draws the scales of the differences, of the volume and of the expected error."""
    height = figure.get_figheight()
    told = {"moving minus fixed, an image's\nblack as 0, white as 1": (axes[0], "neither")}
    told["volume, moving by fixed;\nred: tissue turned inside out"] = (axes[3], "max")
    if len(axes) > len(_FIELD_ROWS):
        told["expected error, mm"] = (axes[4], "max")
    for number, (label, (row, extend)) in enumerate(told.items()):
        bar = figure.add_axes((0.06 + 0.92 / len(told) * number, 1.0 / height, 0.8 / len(told), 0.12 / height))
        figure.colorbar(
            row.images[0], cax=bar, orientation="horizontal", label=label, extend=extend, ticks=MaxNLocator(4)
        )


def page_axes(extents: list[tuple[float, float]], lines: int, names: list[str]) -> tuple[Figure, np.ndarray]:
    """Lays out a page on which every plane has one scale: columns as wide, rows as high as the planes in mm."""
    left, gap, top, bottom, width = 0.9, 0.12, 0.75 + 0.175 * lines, 1.2, _WIDTH  # inches
    widths, heights = np.transpose(extents)
    # Rows of at most 3 inches, so that a long image (a spine, a leg) does not make an endless page.
    scale = min((width - left - gap * len(extents)) / widths.sum(), 3 / heights.max())
    row_height = heights.max() * scale
    height = top + bottom + len(names) * (row_height + gap)
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    axes = np.empty((len(names), len(extents)), dtype=object)
    for row in range(len(names)):
        x, y = left, height - top - row_height - row * (row_height + gap)
        for column, wide in enumerate(widths * scale):
            axes[row, column] = figure.add_axes((x / width, y / height, wide / width, row_height / height))
            x += wide + gap
        axes[row, 0].set_ylabel(names[row], fontsize=11)
    return figure, axes


def scaled(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns values between black, 0, and white, 1."""
    return np.clip((array - low) / max(high - low, 1e-12), 0, 1)


def show(axes: Axes, plane: np.ndarray, view: Plane, **settings: object) -> object:
    """Draws a cut in mm, its rows upwards."""
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.imshow(plane, origin="lower", aspect=view.aspect, interpolation="nearest", **settings)


def _outline(axes: Axes, mask: np.ndarray, view: Plane, colour: str) -> None:
    if mask.any() and not mask.all() and min(mask.shape) > 1:
        axes.contour(mask, levels=[0.5], colors=colour, linewidths=0.8)


def filled_regions(shown: Shown) -> dict[int, tuple]:
    """Returns the labels that are filled and their colours: none of a few labels, which are outlined."""
    sizes = shown.label_sizes
    if len(sizes) <= _FEW:
        return {}
    largest = sorted(sorted(sizes, key=lambda value: -sizes[value])[:_FEW])
    return dict(zip(largest, colormaps["Set1"].colors, strict=False))


def draw_labels(axes: np.ndarray, view: Plane, shown: Shown, regions: dict[int, tuple]) -> None:
    """Draws each image's labels: a few as outlines, beside those of the fixed image, the largest of many filled."""
    result = shown.result
    before = shown.labels_before_on(view.alone(result.fixed.grid))
    rows = [result.fixed_labels, before, result.moved_labels]
    if result.transform is None:
        rows = [result.moved_labels, before]
    cuts = [None if labels is None else _label_cuts(view, labels) for labels in rows]
    if regions:
        for cut, each in zip(cuts, axes, strict=False):
            _fill(each, {} if cut is None else cut, view, regions)
        return
    fixed = None if result.fixed_labels is None else _label_cuts(view, result.fixed_labels)
    for row, cut in enumerate(cuts):
        for where in () if fixed is None else fixed.values():
            _outline(axes[row], where, view, "gold")
        own = cut if row or result.transform is None else None
        for where in () if own is None else own.values():
            _outline(axes[row], where, view, "cyan")


def _label_cuts(view: Plane, labels: Image) -> dict[int, np.ndarray]:
    """Returns where each label is on a plane, of those that are there."""
    cut = view.cut(labels.array)
    if labels.channels is None:
        return {int(value): cut == value for value in np.unique(cut) if value}
    found = {channel + 1: cut[..., channel] >= 0.5 for channel in range(labels.channels)}
    return {value: where for value, where in found.items() if where.any()}


def _fill(axes: Axes, cut: dict[int, np.ndarray], view: Plane, regions: dict[int, tuple]) -> None:
    """Fills labels, in one picture: each more would be laid out anew by matplotlib."""
    shown = [value for value in regions if value in cut]
    if not shown:
        return
    painted = np.zeros((*cut[shown[0]].shape, 4))
    for value in shown:  # where channels overlap, the later lies on the earlier
        below = painted[cut[value]]
        through = below[:, 3:] * (1 - _OPAQUE)
        colour = (_OPAQUE * np.array(regions[value]) + through * below[:, :3]) / (_OPAQUE + through)
        painted[cut[value]] = np.concatenate([colour, _OPAQUE + through], axis=1)
    show(axes, painted, view)


def draw_legend(figure: Figure, shown: Shown, regions: dict[int, tuple]) -> None:
    """Says what the colours of labels mean, at the foot of the page."""
    entries = [Patch(color=colour, label=f"label {value}") for value, colour in regions.items()]
    if not regions:
        sides = {"gold": shown.result.fixed_labels, "cyan": shown.result.moved_labels}
        name = {"gold": "fixed image", "cyan": "moving image"}
        if shown.result.transform is None:
            name["cyan"] = "moving image: predicted on the fixed one, or as at the start"
        entries = [
            Line2D([], [], color=colour, linewidth=2, label=f"labels of the {name[colour]}")
            for colour, labels in sides.items()
            if labels is not None
        ]
    if entries:
        legend = {"loc": "lower center", "ncols": len(entries), "fontsize": 9, "handlelength": 1.2, "columnspacing": 1}
        figure.legend(handles=entries, facecolor="dimgray", labelcolor="white", **legend)


def draw_grid(axes: Axes, view: Plane, shift: np.ndarray, grid: Grid) -> None:
    """Draws where a regular grid of the fixed image is sampled from, after the start's alignment; see `voxel_shift`."""
    across, up = shift[..., view.across], shift[..., view.up]
    rows, columns = np.meshgrid(*(np.arange(n) for n in across.shape), indexing="ij")
    x = columns + (-across if view.flip_across else across)
    y = rows + (-up if view.flip_up else up)
    apart = (grid.spacing * grid.shape).max() / 20  # mm, the same in all views
    wide, high = (max(1, round(apart / grid.spacing[axis])) for axis in (view.across, view.up))
    axes.plot(x[:, ::wide], y[:, ::wide], color="black", linewidth=0.5)
    axes.plot(x[::high].T, y[::high].T, color="black", linewidth=0.5)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, across.shape[1] - 0.5), ylim=(-0.5, across.shape[0] - 0.5))
    axes.set_aspect(view.aspect)


def caption_lines(shown: Shown) -> list[str]:
    """Returns the lines above the planes: who registered, what to watch for, the scores."""
    facts, result = shown.result.facts, shown.result
    start = words.started(facts)
    verdict = words.verdict(facts)
    lines = []
    if verdict:
        lines = _wrapped([f"VERDICT: {verdict['says']}", *verdict["reasons"]])
    told = [f"WARNING: {text}" for text in facts["warnings"] if not verdict or text not in verdict["reasons"]]
    lines.append(f"{words.maker(facts)}; before: {start}")
    lines += _wrapped(told)
    lines += [
        f"{row['name']}: {row['before']} before, {row['after']} after" for row in words.score_rows(facts["scores"])
    ]
    if "jacobian" in facts:
        lines += [f"{row['name']}: {row['value']}" for row in words.field_rows(facts)[:2]]
    if result.transform is None:
        lines.append("No transform: labels predicted on the fixed image.")
    if regions := filled_regions(shown):
        lines.append(f"Of {len(shown.label_sizes)} labels, the {len(regions)} largest are shown.")
    return lines


def _wrapped(texts: list[str]) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, 115, subsequent_indent="    ")]
