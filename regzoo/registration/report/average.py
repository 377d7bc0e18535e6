"""One picture a template: is it sharper than the plain mean, and do the images lie on it?"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regzoo.registration.averages import anatomy
from regzoo.registration.report import words
from regzoo.registration.report.picture import page_axes, scaled, show
from regzoo.registration.report.planes import planes
from regzoo.world.images import Image

if TYPE_CHECKING:
    from regzoo.registration.template_files import Made


def picture(made: Made, shown: Mapping[str, Image], facts: Mapping, path: Path) -> None:
    """Draws three planes through a template, in mm and in radiological layout.

    Rows: the plain mean, from which nothing was registered; the template; how much images differ at each place (their
    standard deviation), before and after; some images as they lie on it.

    Args:
        made: What came of the rounds.
        shown: Images on the template's grid, by name.
        facts: As for `result.json`.
        path: PNG file to write.
    """
    image, before = made.last.image, made.before.image()
    grid, spreads = image.grid, [made.before.spread(), made.last.mean.spread()]
    views = planes(grid, [int(np.median(index)) for index in np.nonzero(anatomy(image))])
    laid = {f"{name},\non it": each for name, each in shown.items()}
    rows = {"plain mean,\nbefore": before, "template": image} | laid
    names = [*[*rows][:2], "differences\nbefore", "differences\nafter", *laid]
    caption = _caption(facts)
    figure, axes = page_axes([view.extent(grid) for view in views], len(caption), names)
    window = np.percentile(image.array, (1, 99.5))
    largest = np.percentile(spreads[0].array, 99.5)
    for column, view in enumerate(views):
        axes[0, column].set_title(f"{view.name}\n{view.left} left, {view.right} right", fontsize=10)
        for row, each in zip((0, 1, *range(4, len(names))), rows.values(), strict=True):
            show(axes[row, column], scaled(view.cut(each.array), *window), view, cmap="gray", vmin=0, vmax=1)
        for row, each in zip((2, 3), spreads, strict=True):
            show(axes[row, column], view.cut(each.array), view, cmap="magma", vmin=0, vmax=largest)
    _draw_bar(figure, axes[2, 0])
    figure.text(0.02, 1 - 0.1 / figure.get_figheight(), "\n".join(caption), fontsize=10, va="top", linespacing=1.2)
    figure.savefig(path, format="png")


def _draw_bar(figure: Figure, axes: Axes) -> None:
    bar = figure.add_axes((0.08, 0.95 / figure.get_figheight(), 0.36, 0.12 / figure.get_figheight()))
    label = "differences: standard deviation of the images' intensities"
    figure.colorbar(axes.images[0], cax=bar, orientation="horizontal", label=label, extend="max", ticks=MaxNLocator(4))


def _caption(facts: Mapping) -> list[str]:
    """Returns the lines above the planes: of how many images, by what, how it settled, what to watch for."""
    rounds, start = facts["rounds"], facts["start"]
    begun = "the plain mean" if start == "mean" else start["file"] if isinstance(start, Mapping) else "an image"
    lines = [f"Template of {len(facts['subjects'])} images by {words.maker(facts)}, begun from {begun}"]
    if facts["symmetric"]:
        lines[0] += ", left and right made the same"
    shifts = ", ".join(f"{each['displacement']['voxels']:.3f}" for each in rounds)
    told = [f"Mean displacement before each round's correction: {shifts} voxels"]
    changes = ", ".join(f"{each['change']:.3f}" for each in rounds if each["change"] is not None)
    if changes:
        told.append(f"Change of the maps from round to round: {changes} voxels")
    told += [f"WARNING: {text}" for text in facts["warnings"]]
    return lines + [line for text in told for line in textwrap.wrap(text, 115, subsequent_indent="    ")]
