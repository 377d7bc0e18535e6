"""Transform files of the command line, one after the other, some of them inverted; shared by warp and transform."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from regzoo.world.transforms import Transform

HELP = (
    "Transform file: .nii.gz, .nii, .h5, .tfm, .txt, .mat, .mha or .nrrd; [FILE,1] is its inverse, as ANTs "
    "writes it. Of several, a point of fixed space goes through the first one first."
)


def composed(files: Sequence[str]) -> "Transform":
    """Returns the transforms one after the other; the grid is that of the first file that has one."""
    from regzoo.world.transforms import Transform

    whole = Transform()
    for each in files:
        match = re.fullmatch(r"\[\s*(?P<file>.+?)\s*,\s*(?P<inverse>[01])\s*\]", each)
        found = Transform.load(match["file"] if match else each)
        turned = found.inverse() if match and match["inverse"] == "1" else found
        whole = Transform((*whole.steps, *turned.steps), whole.grid or found.grid)
    return whole


@contextlib.contextmanager
def warnings_told() -> Iterator[None]:
    """Prints what is warned of meanwhile, a line each, at the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for each in caught:
        typer.echo(f"warning: {each.message}", err=True)
