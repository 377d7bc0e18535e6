"""What a registration gives, and how it is written to a folder."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regzoo import progress
from regzoo.errors import invalid
from regzoo.io.files import LISTING, atomic_folder, check_apart, check_writable, digests
from regzoo.registration.report.animation import animation
from regzoo.registration.report.page import page
from regzoo.registration.report.picture import picture
from regzoo.registration.report.shown import Shown
from regzoo.schema.card import Card
from regzoo.world.dicom_results import DicomResult
from regzoo.world.images import Image
from regzoo.world.transforms import Transform


@dataclass(frozen=True)
class Result:
    """What a registration gives.

    Args:
        fixed: The fixed image as read, but for padding.
        moving: The moving image as read, but for padding.
        start: The transform that the model started from: identity, or the shift of one image centre to the other.
        facts: What `result.json` holds: scores before and after, Jacobian figures, seconds, model, warnings.
        moved: The moving image on the fixed image's grid, sampled once; None where there is no transform.
        transform: From fixed to moving space, RAS mm; its grid is the fixed image's. None for a conditional model,
            which predicts labels on the fixed image without one.
        fixed_labels: Label map of the fixed image, if given.
        moving_labels: Label map of the moving image, if given.
        moved_labels: Label map of the moving image on the fixed image's grid, if given; or the predicted one.
        fixed_points: Landmarks of the fixed image (N, 3) in RAS mm, if given.
        moving_points: Landmarks of the moving image, if given, in its own space.
        card: What the model says of itself.
        error: How far off the map is expected to be, mm, on the fixed image's grid; None where that is not known.
    """

    fixed: Image
    moving: Image
    start: Transform
    facts: dict = field(default_factory=dict)
    moved: Image | None = None
    transform: Transform | None = None
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    moved_labels: Image | None = None
    fixed_points: np.ndarray | None = None
    moving_points: np.ndarray | None = None
    card: Card | None = None
    error: Image | None = None

    def __repr__(self) -> str:
        model = self.facts.get("model")
        by = f"{model['name']}@{model['version']}" if model else self.facts.get("method", "nothing")
        count = len(self.facts.get("warnings", ()))
        told = [*_changes(self.facts.get("scores", {})), f"{count or 'no'} warning{'s' * (count != 1)}"]
        folds = self.facts.get("jacobian", {}).get("folds")
        if folds is not None:
            told.insert(-1, f"{100 * folds:.2g} % folds")
        return f"<Result {self.fixed.grid.text()}, by {by}: {', '.join(told)}>"

    def save(self, folder: str | os.PathLike, *, gif: bool = False, html: bool = True) -> Path:
        """Writes moved.nii.gz, moved_labels.nii.gz, error.nii.gz, the transform (what there is), reports, result.json.

        report.png is a picture; report.html, a page for any browser that needs nothing beside it, shows three planes.

        The transform is a field, transform.nii.gz, which ends with the fixed image's grid. Where it has a matrix, it is
        also beside it as what it is: a matrix as transform.tfm, a field and a matrix as transform.h5.

        All files appear together, once all of them are written; what an earlier result left and this one lacks goes.

        Args:
            folder: Output folder.
            gif: Whether to write report.gif too, fixed and moving image in turn.
            html: Whether to write report.html, which takes some seconds of large images.

        Returns:
            The folder.
        """
        folder = Path(folder)
        check_writable(folder, folder=True)
        check_apart(folder, [each.file for each in (self.fixed, self.moving) if each.file])
        files = self._contents()
        with atomic_folder(folder, LISTING, _SOMETIMES) as path:
            for name, content in files.items():
                content.save(path / name)
            with clock(self.facts["seconds"], "picture"):
                self._draw(path, gif, html)
            text = json.dumps(plain(self.facts) | {"files": digests(path)}, indent=2, allow_nan=False) + "\n"
            (path / LISTING).write_text(text, encoding="utf-8")
        return folder

    def save_report(self, folder: str | os.PathLike) -> Path:
        """Writes report.png and report.html alone, which keep no image by itself; returns the folder."""
        folder = Path(folder)
        if (folder / LISTING).exists():
            raise invalid("folder", "one without a result, whose files it lists", folder, "Choose another.")
        with atomic_folder(folder) as path:
            self._draw(path, gif=False, html=True)
        return folder

    def _draw(self, path: Path, gif: bool, html: bool) -> None:
        shown = Shown(self)
        picture(shown, path / "report.png")
        if html:
            page(shown, path / "report.html")
        if gif:
            animation(shown, path / "report.gif")

    def save_dicom(self, folder: str | os.PathLike) -> Path:
        """Writes the moved image as a DICOM series, and the transform as a registration object; extra `dicom`.

        They are of the moving image's patient and study, with all that names the person, unlike what `save` writes.

        Args:
            folder: Where to: `moved`, a folder with a file a slice, and `transform.dcm`. It must be new or empty.

        Returns:
            The folder.

        Raises:
            InvalidError: If the moving image is no CT or MR in DICOM, the fixed one is DICOM of another patient, the
                folder holds something, or there is no transform.
            MissingError: If pydicom is not installed.
        """
        return DicomResult(folder, self.fixed.file, self.fixed.grid, self.moving).save(self.moved, self.transform)

    def files(self, *, gif: bool = False, html: bool = True) -> list[str]:
        """Returns the names of the files that `save` writes."""
        reports = {"report.html": html, "report.png": True, LISTING: True, "report.gif": gif}
        return [*self._contents(), *(name for name, written in reports.items() if written)]

    def _contents(self) -> dict[str, Image | Transform]:
        """Returns what is written by the names of the files."""
        files = {"moved.nii.gz": self.moved, "moved_labels.nii.gz": self.moved_labels, "error.nii.gz": self.error}
        if self.transform is not None:
            field, matrix, both = _TRANSFORMS
            files[field] = self.transform
            if self.transform.matrix is not None:
                files[matrix] = self.transform
            elif self.transform.has_matrix:
                files[both] = self.transform
        return {name: content for name, content in files.items() if content is not None}


def _changes(scores: dict) -> list[str]:
    """Returns how the headline scores changed: `dice 0.570 to 0.843`."""
    before, after = scores.get("before", {}), scores.get("after", {})
    found = [
        f"{name} {before[key]:.3f} to {after[key]:.3f}"
        for name, key in (("dice", "mean_dice"), ("ncc", "ncc"))
        if np.isfinite([side.get(key, np.nan) for side in (before, after)]).all()
    ]
    if "tre" in before and "tre" in after:
        found.insert(0, f"tre {before['tre']['mean']:.2f} to {after['tre']['mean']:.2f} mm")
    return found


_TRANSFORMS = ("transform.nii.gz", "transform.tfm", "transform.h5")
_SOMETIMES = ("moved.nii.gz", "moved_labels.nii.gz", "error.nii.gz", "report.gif", "report.html", *_TRANSFORMS)
"""Files that a result may lack; those of an earlier one go."""


@contextmanager
def clock(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Adds the seconds of a step, to the millisecond, and tells that it begins."""
    progress.stage(step)
    start = time.perf_counter()
    yield
    seconds[step] = round(seconds.get(step, 0.0) + time.perf_counter() - start, 3)


def plain(value: object) -> object:
    """Returns facts as JSON can hold them: string keys, and null where there is no number."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(float(value), 6) if np.isfinite(value) else None
    return value
