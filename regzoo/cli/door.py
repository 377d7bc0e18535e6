"""The command line's way in and out: errors become one line, a broken pipe or Ctrl-C an exit code."""

import os
import re
import shlex
import sys

import typer

from regzoo import installed
from regzoo.cli.interrupts import insistent
from regzoo.cli.once import Once
from regzoo.cli.output import visible
from regzoo.errors import RegzooError

NO_MEMORY = (
    "The memory was too small. On a GPU, run again with --device cpu; in training, or lower training.batch_size."
)


_TYPED = "regzoo.typed"
_UsageError = typer.BadParameter.__base__  # typer shows no other way to it


class Door(Once):
    """Runs a command and turns the user's errors into one line; a fault of regzoo itself keeps its traceback."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Keeps the command as it was typed for `typed`."""
        ctx.meta[_TYPED] = shlex.join(["regzoo", *args])
        if not args:  # the help of all commands
            return super().parse_args(ctx, args)
        try:
            return super().parse_args(ctx, args)
        except _UsageError as error:
            _misused(error, ctx)

    def invoke(self, ctx: typer.Context) -> object:
        """Runs the command."""
        try:
            with insistent():
                return super().invoke(ctx)
        except _UsageError as error:
            _misused(error, ctx)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            ctx.exit(130)
        except BrokenPipeError:  # `regzoo list | head`; without this Python complains again while it closes stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)
        except ModuleNotFoundError as error:
            if ctx.params.get("debug") or error.name not in installed.BACKENDS:
                raise
            typer.echo(f"error: {installed.missing(error)}", err=True)
            ctx.exit(1)
        except (RegzooError, ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"error: {message(error)}", err=True)
            ctx.exit(1)
        except Exception as error:
            if ctx.params.get("debug") or not _is_out_of_memory(error):
                raise
            typer.echo(f"error: {NO_MEMORY}", err=True)
            ctx.exit(1)


_RENAMED = {"--alignment": "No such option: --alignment. Its name is --start now"}


def _misused(error: Exception, ctx: typer.Context) -> None:
    """Says in one line what is wrong with a command line, and how the command is called."""
    if not type(error).__name__.startswith("NoArgs"):  # `regzoo recipe` alone: the help of its commands
        where = error.ctx or ctx
        said = _RENAMED.get(getattr(error, "option_name", ""), "") or error.format_message()
        said = re.sub(r"Invalid value(:| for) |Value error, |, unable to parse .*", "", said)
        said = said.replace("Input should be", "expected").rstrip(".")
        usage = re.sub(r"[{}]", "", where.get_usage()).replace("......", "...")
        said += f"{'' if said.endswith('?') else '.'} {usage}; {where.command_path} -h tells more."
        typer.echo(f"error: {visible(' '.join(said.split()))}", err=True)
        ctx.exit(2)
    raise error


def typed(ctx: typer.Context) -> str:
    """Returns the command line as it was typed."""
    return ctx.meta[_TYPED]


def _is_out_of_memory(error: Exception) -> bool:
    """Tells whether memory, of the computer or of a device, was too small, in the words of NumPy and each backend."""
    words = ("RESOURCE_EXHAUSTED", "OOM when allocating", "out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(each in str(error) for each in words)


def message(error: Exception) -> str:
    """Returns an error as one line that a terminal can show."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return visible(" ".join(text.split())) or type(error).__name__
