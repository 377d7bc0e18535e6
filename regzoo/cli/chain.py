"""Transform files of the command line, one after the other, some of them inverted; shared by warp and transform."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from regzoo.world.images import Grid
    from regzoo.world.transforms import Transform

HELP = (
    "Transform file: .nii.gz, .nii, .h5, .hdf5, .tfm, .txt, .mat, .lta, .x5, .mha, .mhd, .nrrd or .dcm; [FILE,1] is "
    "its inverse, as ANTs writes it. Of several, a point of fixed space goes through the first one first."
)


def composed(files: Sequence[str], fixed: "Grid | None" = None, moving: "Grid | None" = None) -> "Transform":
    """Returns the transforms one after the other.

    Args:
        files: Their files, as `HELP` has it.
        fixed: The grid of the fixed image of a lone file, which only FSL's matrices need.
        moving: The grid of its moving image, likewise.

    Returns:
        The composed transform; its grid is that of the first file that has one.
    """
    from regzoo.world.transforms import Transform

    whole = Transform()
    for each in files:
        name, inverted = named(each)
        images = (moving, fixed) if inverted else (fixed, moving)
        found = Transform.load(name, **dict(zip(("fixed", "moving"), images, strict=True)) if len(files) == 1 else {})
        turned = found.inverse() if inverted else found
        whole = Transform((*whole.steps, *turned.steps), whole.grid or found.grid)
    return whole


def named(text: str) -> tuple[str, bool]:
    """Returns the file of FILE or [FILE,1], and whether it is to be inverted."""
    match = re.fullmatch(r"\[\s*(?P<file>.+?)\s*,\s*(?P<inverse>[01])\s*\]", text)
    return (match["file"], match["inverse"] == "1") if match else (text, False)


@contextlib.contextmanager
def warnings_told() -> Iterator[None]:
    """Prints what is warned of meanwhile, a line each, at the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        typer.echo(f"warning: {each.message}", err=True)
