"""Fixed and moving image in turn: what does not fit jumps."""

from pathlib import Path

from matplotlib.animation import PillowWriter

from regzoo.registration.report import picture
from regzoo.registration.report.planes import planes
from regzoo.registration.report.shown import Shown

_A_SECOND = 1.5  # frames


def animation(shown: Shown, path: Path) -> None:
    """Draws three planes of the fixed image and of the registered one in turn; without a transform, of the start.

    Args:
        shown: What `register` gave, and what is drawn from it.
        path: GIF file to write.
    """
    result = shown.result
    views = planes(result.fixed.grid, shown.middle)
    moved = {"moving, registered": result.moved} if result.moved else {"moving, at the start": shown.before}
    figure, axes = picture.page_axes([view.extent(result.fixed.grid) for view in views], 1, [""])
    said = figure.text(0.02, 1 - 0.1 / figure.get_figheight(), "", fontsize=14, va="top")
    writer = PillowWriter(fps=_A_SECOND)
    with writer.saving(figure, path, picture.DPI):
        for name, image in {"fixed": result.fixed, **moved}.items():
            window = shown.window["fixed" if name == "fixed" else "moving"]
            said.set_text(name)
            for each, view in zip(axes[0], views, strict=True):
                each.clear()
                cut = picture.scaled(view.cut(image.array), *window)
                picture.show(each, cut, view, cmap="gray", vmin=0, vmax=1)
                each.set_title(f"{view.name}\n{view.left} left, {view.right} right", fontsize=10)
            writer.grab_frame()
