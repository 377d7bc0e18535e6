"""The command line's `import` and `recipe import`; heavy imports stay inside the commands."""

from pathlib import Path
from typing import Annotated

import typer

from regzoo.cli.once import Once
from regzoo.io.files import check_writable

models = typer.Typer(cls=Once, help="Turn another project's network into a model.", no_args_is_help=True)


@models.command("voxelmorph")
def import_voxelmorph(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Keras 2 file (.h5) of VoxelMorph's 2018 networks.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write the model to.")],
    name: Annotated[str | None, typer.Option(help="Name on its card.", show_default="the file's")] = None,
) -> None:
    """Turn a VoxelMorph network into a model. Its folder is printed."""
    check_writable(output, folder=True)
    from regzoo import backend  # noqa: F401 - the backend first, since it keeps start-up chatter away
    from regzoo.importers import voxelmorph

    typer.echo(voxelmorph.import_voxelmorph(source, output, name))
    typer.echo(f"warning: {voxelmorph.ASSUMED}", err=True)


recipes = typer.Typer(cls=Once, help="Turn another project's config into a recipe.", no_args_is_help=True)


@recipes.command("import")
def import_recipe(
    sources: Annotated[list[Path], typer.Argument(metavar="FILES", help="DeepReg configs (YAML), merged in order.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Recipe to write.")],
    name: Annotated[str | None, typer.Option(help="Name of the recipe.", show_default="the first file's")] = None,
    spacing: Annotated[
        str | None, typer.Option(metavar="MM,MM,MM", help="Voxel size of the config's image shape.", show_default=False)
    ] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option(min=1, help="Training steps in one of DeepReg's epochs.", show_default="counted")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="REGZOO_DATA", help="Where the config's folders are, to count its images."),
    ] = None,
) -> None:
    """Turn a DeepReg config into a recipe. What has no counterpart is named on stderr and in the recipe."""
    check_writable(output, folder=False)
    from regzoo.importers.deepreg import import_deepreg

    millimetres = None if spacing is None else _millimetres(spacing)
    found = import_deepreg(sources, name=name, spacing=millimetres, steps_per_epoch=steps_per_epoch, data=data)
    found.write(output)
    typer.echo(output)
    for note in found.notes:
        typer.echo(f"warning: {note}", err=True)


def _millimetres(text: str) -> list[float]:
    try:
        values = [float(each) for each in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        raise typer.BadParameter(f"--spacing: expected three numbers such as 1,1,2.5, received '{text}'.")
    return values
