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
Start = Annotated[
    str | None,
    typer.Option(
        help="Start: image centres ('center'), scanner coordinates ('world'); with --method also 'mass', 'moments'."
    ),
]
Data = Annotated[
    Path | None, typer.Option("--data", envvar="REGZOO_DATA", help="Folder that a recipe's data.root is relative to.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Output folder.")]
Volume = Annotated[int | None, typer.Option(help="Which volume of a 4-D file, from 0.", show_default=False)]
