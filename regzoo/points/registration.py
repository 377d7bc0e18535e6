"""register_points: two point sets, or surfaces of labels, in; a transform, figures and moved points out. No Keras."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import scipy
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

import regzoo
from regzoo.errors import invalid, unknown
from regzoo.io.files import LISTING, atomic_folder, digests
from regzoo.io.landmarks import Landmarks, check_paired, is_points, read_landmarks, read_normals, write_points
from regzoo.io.provenance import provenance
from regzoo.points import PointResult, cpd, icp, surface
from regzoo.points.coherent_drift import LAM, OUTLIERS, default_beta
from regzoo.world import metrics
from regzoo.world.images import Grid, Image
from regzoo.world.jacobians import statistics
from regzoo.world.labels import mask, present
from regzoo.world.matrices import checked_points
from regzoo.world.overlay import point_picture
from regzoo.world.transforms import Transform

Source = str | os.PathLike | Image | SpatialImage | ArrayLike


@dataclass(frozen=True)
class Method:
    """A function of `regzoo.points`, its constraint and the settings that it may be given."""

    function: Callable[..., PointResult]
    constraint: str
    settings: tuple[str, ...]


_ICP, _CPD = ("trim", "max_distance"), ("outliers",)
METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "icp": Method(icp, "rigid", _ICP),
        "icp-similarity": Method(icp, "similarity", _ICP),
        "icp-affine": Method(icp, "affine", _ICP),
        "cpd-rigid": Method(cpd, "rigid", _CPD),
        "cpd-similarity": Method(cpd, "similarity", _CPD),
        "cpd-affine": Method(cpd, "affine", _CPD),
        "cpd-deformable": Method(cpd, "deformable", (*_CPD, "beta", "lam")),
    }
)


@dataclass(frozen=True)
class PointRegistration:
    """What a registration of point sets gives.

    Args:
        fixed: Fixed points, (N, 3), RAS mm.
        moving: Moving points, (M, 3).
        transform: From fixed to moving space, RAS mm; a deformable one has a grid to be saved on.
        facts: What `result.json` holds: scores before and after, settings, seconds, warnings.
        named: The moving landmarks of a CSV file with their names and other words.
    """

    fixed: np.ndarray
    moving: np.ndarray
    transform: Transform
    facts: dict = field(default_factory=dict)
    named: Landmarks | None = None

    def __repr__(self) -> str:
        found = [self.facts["scores"][when]["nearest"]["fixed"] for when in ("before", "after")]
        moved = f"nearest point {found[0]:.2f} to {found[1]:.2f} mm"
        sizes = f"{len(self.fixed)} and {len(self.moving)} points"
        return f"<PointRegistration of {sizes} by {self.facts['method']}: {moved}>"

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes the transform, moved.csv (moving points in fixed space, in their order), report.png and result.json.

        A matrix is written as transform.tfm, an ITK affine transform; a deformable transform as transform.nii.gz, a
        displacement field that ITK and ANTs read as theirs, and which moves nothing outside its grid. All files appear
        together.

        Args:
            folder: Output folder.

        Returns:
            The folder.
        """
        folder = Path(folder)
        with warnings.catch_warnings(record=True) as caught, atomic_folder(folder, LISTING, _TRANSFORMS) as path:
            warnings.simplefilter("always")
            self.transform.save(path / self.files()[0])
            moved = self.transform.invert_points(self.moving)
            write_points(path / "moved.csv", moved, self.named)
            point_picture(self.fixed, self.moving, moved, path / "report.png", self.facts["method"])
            self.facts["warnings"] += [str(each.message) for each in caught]  # moving points that have no inverse
            text = json.dumps(self.facts | {"files": digests(path)}, indent=2, allow_nan=False) + "\n"
            (path / LISTING).write_text(text, encoding="utf-8")
        return folder

    def files(self) -> list[str]:
        """Returns the names of the files that `save` writes."""
        return [_TRANSFORMS[self.transform.matrix is not None], "moved.csv", "report.png", LISTING]


_TRANSFORMS = ("transform.nii.gz", "transform.tfm")


def register_points(
    fixed: Source,
    moving: Source,
    method: str = "icp",
    *,
    label: int | None = None,
    count: int = 2000,
    reference: str | os.PathLike | None = None,
    fixed_points: str | os.PathLike | None = None,
    moving_points: str | os.PathLike | None = None,
    **settings: float,
) -> PointRegistration:
    """Registers point sets of which nobody knows which point belongs to which.

    Args:
        fixed: Points (N, 3) in RAS mm, a CSV file `x,y,z`, or a label map (file, `Image` or nibabel image),
            whose surface is taken.
        moving: The same. The normals of a CSV with the columns `nx,ny,nz` are used by ICP, which then minimises the
            distances to planes. Those of a label's surface are not: voxels make them rough, and on lungs that breathe
            the planes slid.
        method: A name in `METHODS`; `"icp"` is rigid.
        label: Which label of a label map; None: its only one.
        count: Most points of a surface, drawn by chance with a fixed seed.
        reference: Image on whose grid a deformable transform is saved; None: a grid around the fixed points.
        fixed_points: CSV of landmarks whose error is counted; the method does not see them.
        moving_points: The same landmarks in moving space, row by row.
        settings: Of the method: `trim`, `max_distance` (icp), `outliers` (cpd), `beta`, `lam` (cpd-deformable); see
            `regzoo.points`, also for their defaults.

    Returns:
        The result; `result.save(folder)` writes it.

    Raises:
        RegzooError: If an input cannot be used; the message says which and what to do.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> fixed = np.random.default_rng(0).normal(scale=20, size=(200, 3))  # RAS mm
        >>> result = regzoo.register_points(fixed, fixed + [2.0, 0.0, -1.0])
        >>> result.transform.matrix[:3, 3].round(3).tolist()
        [2.0, 0.0, -1.0]
    """
    chosen = _checked_method(method, settings)
    if reference is not None and chosen.constraint != "deformable":
        raise invalid("reference", "none, since a matrix needs no grid", str(reference), "Leave it out.")
    grid = None if reference is None else Grid.read(reference)
    a, _, _ = _read("fixed", fixed, label, count)
    b, normals, named = _read("moving", moving, label, count)
    landmarks = _landmarks(fixed_points, moving_points)
    start = time.perf_counter()
    planes = normals is not None and chosen.function is icp
    found = chosen.function(a, b, chosen.constraint, **({"normals": normals} if planes else {}), **settings)
    seconds = round(time.perf_counter() - start, 3)
    transform = found.transform if grid is None else replace(found.transform, grid=grid)
    sources = {"fixed": fixed, "moving": moving, "reference": reference}
    facts = _origin(sources | {"fixed_points": fixed_points, "moving_points": moving_points})
    facts |= {"method": method, "settings": _used(chosen, a, planes) | settings, "seconds": {"registration": seconds}}
    facts |= _figures(a, b, found, transform, landmarks)
    return PointRegistration(a, b, transform, facts, named)


def _checked_method(name: str, settings: Mapping[str, float]) -> Method:
    chosen = METHODS.get(name)
    if chosen is None:
        raise unknown("method", name, METHODS)
    for key in set(settings) - set(chosen.settings):
        raise invalid(key, f"a setting of {name}, which has {', '.join(chosen.settings)}", settings[key])
    return chosen


def _used(method: Method, fixed: np.ndarray, planes: bool) -> dict:
    """Returns the settings that a method takes where none are given."""
    if method.constraint == "deformable":
        return {"outliers": OUTLIERS, "beta": round(default_beta(fixed), 3), "lam": LAM}
    return {"distance": "to planes" if planes else "to points"} if method.function is icp else {}


def _figures(
    fixed: np.ndarray, moving: np.ndarray, found: PointResult, transform: Transform, landmarks: tuple | None
) -> dict:
    """Returns scores, what the transform does to volumes, and what makes it doubtful."""
    facts = {
        "points": {"fixed": len(fixed), "moving": len(moving)},
        "iterations": found.iterations,
        "rmse": found.rmse,
        "fitness": found.fitness,
        "scores": {
            "before": _score(fixed, moving, Transform(), landmarks),
            "after": _score(fixed, moving, transform, landmarks),
        },
        "warnings": [],
    }
    if transform.matrix is None:
        facts["jacobian"] = jacobian = statistics(transform.displacement(transform.grid), transform.grid)
        if jacobian["folds"]:
            facts["warnings"].append(f"The field folds at {100 * jacobian['folds']:.2f} % of the voxels.")
    elif np.linalg.det(transform.matrix[:3, :3]) <= 0:
        facts["warnings"].append("The matrix mirrors.")
    return facts


def _origin(sources: Mapping[str, object]) -> dict:
    versions = {"regzoo": regzoo.__version__, "numpy": np.__version__, "scipy": scipy.__version__}
    return provenance(sources, versions, "cpu")


def _read(
    name: str, source: Source, label: int | None, count: int
) -> tuple[np.ndarray, np.ndarray | None, Landmarks | None]:
    """Returns points, normals, and the landmarks of a file; None where there are none."""
    is_file = isinstance(source, str | os.PathLike)
    if not is_file and not isinstance(source, Image | SpatialImage):
        return checked_points(name, source), None, None
    if is_file and is_points(source):
        found = read_landmarks(source)
        return found.points, read_normals(source), found
    labels = Image.of(source, name, labels=True)
    known = present(labels)
    if label is None and len(known) != 1:
        raise invalid(f"label of {name}", "one of the map's labels", None, f"It has {known}; choose one (--label).")
    label = known[0] if label is None else label
    if label not in known:
        raise invalid(f"label of {name}", f"one of the map's labels, {known}", label)
    return surface(Image(mask(labels, label), labels.affine), count)[0], None, None


def _landmarks(fixed: str | os.PathLike | None, moving: str | os.PathLike | None) -> tuple | None:
    if (fixed is None) != (moving is None):
        raise invalid("landmarks", "fixed_points and moving_points", "one of them")
    if fixed is None:
        return None
    found = read_landmarks(fixed), read_landmarks(moving)
    check_paired(*found)
    return tuple(each.points for each in found)


def _score(fixed: np.ndarray, moving: np.ndarray, transform: Transform, landmarks: tuple | None) -> dict:
    """Returns mean distances in mm to the nearest point of the other set, both ways, and the error of landmarks."""
    mapped = transform.apply_points(fixed)
    nearest = {"fixed": cKDTree(moving).query(mapped)[0], "moving": cKDTree(mapped).query(moving)[0]}
    found = {"nearest": {side: float(distance.mean()) for side, distance in nearest.items()}}
    if landmarks is not None:
        errors = metrics.tre(*landmarks, transform)
        found["tre"] = {"mean": float(errors.mean()), "sd": float(errors.std()), "max": float(errors.max())}
    return found
