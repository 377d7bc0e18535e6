"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="name, name@version, a folder or hf://owner/repo[@revision]", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="REGZOO_DATA",
        help="Folder that a recipe's data.root is relative to.",
        show_default="data",
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
Dicom = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Of a moving image in DICOM, CT or MR: write it there as a DICOM series in the fixed image's frame of "
        "reference, and the transform as a registration object, with all that names the patient.",
        show_default=False,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress, and say nothing but errors, warnings and the result.")
]
Volume = Annotated[
    int | None, typer.Option(metavar="N", help="Which volume of a 4-D file, from 0.", show_default=False)
]
